/* writers RECORD LIVES BLOCK... : attacks invariants 1 and 2 of the fast restart path.
 *
 * Each life writes its own number into shared words as fast as it can, by threads, by a handler of a
 * timer's signal, by a child, or by a grandchild that nobody knows, and faults in the midst of it. The
 * next life takes the words over at its first line and looks, for as long as it takes to write them a
 * few thousand times, whether anybody else still writes. It also binds the port and takes the lock
 * that the last life held. What it finds goes into RECORD, which outlives everybody.
 *
 * The number of the life chooses what it does. Life LIVES parks. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS = 64, LOOKS = 3000 };

struct record {
    uint32_t lives;      /* that reached main */
    uint32_t strangers;  /* writes of an old life that a new one saw */
    uint32_t not_free;   /* a port or a lock that was not */
    uint32_t skipped;    /* lives whose number is not the one after the last */
    uint32_t last;
    uint32_t ways[8];    /* how often each way to end was taken */
    uint32_t words[WORDS];
};

static struct record *record;
static volatile uint32_t life;
static volatile uint32_t ready;

static void write_words(void) {
    for (int i = 0; i < WORDS; i++)
        __atomic_store_n(&record->words[i], life, __ATOMIC_RELAXED);
}

static void *writer(void *unused) {
    __atomic_fetch_add(&ready, 1, __ATOMIC_RELAXED);
    for (;;) write_words();
}

static void on_alarm(int signal) {
    write_words();
    ready = 1;
}

static void wait_until_ready(uint32_t how_many) {
    while (__atomic_load_n(&ready, __ATOMIC_RELAXED) < how_many) sched_yield();
}

static void start_alarms(void) {
    struct sigaction action = { .sa_handler = on_alarm };
    sigaction(SIGALRM, &action, 0);
    struct itimerval often = { { 0, 20 }, { 0, 20 } };
    setitimer(ITIMER_REAL, &often, 0);
    while (!ready) write_words();
}

static void start_threads(int count) {
    pthread_t thread;
    for (int i = 0; i < count; i++) pthread_create(&thread, 0, writer, 0);
    wait_until_ready(count);
}

/* A child that writes; a daemon when `lost`: its parent does not know it any more. */
static void start_child(int lost) {
    int begun[2];
    char byte;
    pipe(begun);
    pid_t child = fork();
    if (child == 0) {
        if (lost && fork()) _exit(0);
        if (lost) setsid();
        write(begun[1], "", 1);
        for (;;) write_words();
    }
    if (lost) waitpid(child, 0, 0);
    read(begun[0], &byte, 1);
}

static void fault(int how) {
    switch (how) {
    case 0: *(volatile int *)8 = 1; break;
    case 1: abort();
    case 2: __builtin_trap();
    case 3: raise(SIGSEGV); break;
    case 4: { volatile int seven = 7, zero = 0; life = seven / zero; break; }
    case 5: kill(getpid(), SIGKILL); break;
    default: _exit(3);
    }
    for (;;) pause();
}

static void look_for_strangers(void) {
    write_words();
    for (int look = 0; look < LOOKS; look++)
        for (int i = 0; i < WORDS; i++)
            if (__atomic_load_n(&record->words[i], __ATOMIC_RELAXED) != life) {
                record->strangers++;
                record->words[i] = life;
            }
}

static void take_port_and_lock(const char *path, int port) {
    int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port) };
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(s, (void *)&at, sizeof at) || listen(s, 1)) record->not_free++;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock whole = { .l_type = F_WRLCK };
    if (fcntl(fd, F_SETLK, &whole)) record->not_free++;
    int other = open(path, O_RDWR | O_CLOEXEC);
    if (flock(other, LOCK_EX | LOCK_NB)) record->not_free++;
}

int main(int argc, char **argv) {
    life = 1 + atoi(getenv("REFRAIN_LIFE"));
    int fd = open(argv[1], O_RDWR | O_CLOEXEC);
    record = mmap(0, sizeof *record, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    look_for_strangers();
    take_port_and_lock(argv[2], atoi(argv[3]));
    if (record->last + 1 != life) record->skipped++;
    record->last = life;
    record->lives++;
    if (life > (uint32_t)atoi(argv[4])) for (;;) pause();

    int way = life % 8;
    record->ways[way]++;
    switch (way) {
    case 0: case 1: case 2: break; /* alone: the relay */
    case 3: case 4: start_alarms(); break;
    case 5: start_threads(1 + life % 3); break;
    case 6: start_child(0); break;
    case 7: start_child(1); break;
    }
    for (int i = life * 7919 % 300; i > 0; i--) write_words();
    fault(life / 8 % 7);
}
