/* The C actor that is tortured: `victim DIR NAME SLOT FLAGS PORT`. It knows nothing of Refrain. It writes
 * into its slot of the record what `src/record.rs` says, and does what `DIR/NAME.fifo` tells it.
 *
 * Flags: `k` two children that hold its port and its lock, one in a session of its own; `t` two threads. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WORDS = 32, SLOTS = 128, COMMAND = 16 };
enum { BEGUN, LIFE, PID, PONG, TAKEN, WRONG, CODE, DETAIL };
enum { NOT_ALONE = 1, LIFE_NUMBER = 2, PORT_TAKEN = 3 };

static uint64_t *slot;
static volatile int zero, seven = 7;

static void set(int word, uint64_t value) { __atomic_store_n(slot + word, value, __ATOMIC_SEQ_CST); }
static void count(int word) { __atomic_add_fetch(slot + word, 1, __ATOMIC_SEQ_CST); }

static void wrong(int code, uint64_t detail) {
    set(CODE, code);
    set(DETAIL, detail);
    count(WRONG);
}

static void listen_on(int port) {
    int one = 1, sock = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(sock, (void *)&at, sizeof at) || listen(sock, 4)) wrong(PORT_TAKEN, port);
}

static void bus(void) {
    FILE *file = tmpfile();
    volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    page[0] = 1; /* past the end of an empty file */
}

/* Needs a page of stack for each level, and has no last one. */
__attribute__((noinline)) static int deep(int level) {
    volatile char page[4096];
    page[level & 4095] = 1;
    return page[0] + (level < 0 ? 0 : deep(level + 1)) + page[1];
}

static void out_of_memory(void) {
    struct rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_AS, &limit);
    for (;;) {
        char *piece = malloc(8 << 20);
        if (!piece) abort();
        memset(piece, 1, 8 << 20);
    }
}

static void *sleeper(void *nothing) {
    for (;;) pause();
    return nothing;
}

static void *leaver(void *how) {
    if (*(char *)how == 't') exit(7);
    *(volatile int *)(long)zero = 1;
    return how;
}

static void end(char how) {
    pthread_t thread;
    if (!strchr("sbfiakomxytu", how)) return;
    count(TAKEN);
    switch (how) {
    case 's': *(volatile int *)(long)zero = 1; break;
    case 'b': bus(); break;
#if defined(__x86_64__)
    case 'f': zero = seven / zero; break;
#else
    case 'f': raise(SIGFPE); break;
#endif
    case 'i': __builtin_trap(); break;
    case 'a': abort();
    case 'k': raise(SIGKILL); break;
    case 'o': deep(0); break;
    case 'm': out_of_memory(); break;
    case 'x': exit(0);
    case 'y': exit(3);
    default:
        pthread_create(&thread, NULL, leaver, &how);
        pthread_join(thread, NULL);
    }
}

int main(int argc, char **argv) {
    char path[4096], text[COMMAND + 1] = {0};
    if (argc < 6) return 2;
    snprintf(path, sizeof path, "%s/record", argv[1]);
    int record = open(path, O_RDWR);
    uint64_t *all = mmap(NULL, WORDS * SLOTS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, record, 0);
    if (all == MAP_FAILED) return 2;
    close(record);
    slot = all + WORDS * atoi(argv[3]);
    snprintf(path, sizeof path, "%s/%s.lock", argv[1], argv[2]);
    int lock = open(path, O_RDWR | O_CREAT, 0600);
    if (flock(lock, LOCK_EX | LOCK_NB)) wrong(NOT_ALONE, getpid());
    const char *number = getenv("REFRAIN_LIFE");
    uint64_t life = number ? strtoull(number, NULL, 10) : UINT64_MAX;
    if (slot[LIFE] != UINT64_MAX && life <= slot[LIFE]) wrong(LIFE_NUMBER, life);
    set(LIFE, life);
    set(PID, getpid());
    if (atoi(argv[5])) listen_on(atoi(argv[5]));
    for (int kid = 0; strchr(argv[4], 'k') && kid < 2; kid++) {
        if (fork()) continue;
        if (kid) setsid();
        for (;;) pause();
    }
    for (int i = 0; strchr(argv[4], 't') && i < 2; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, sleeper, NULL);
    }
    snprintf(path, sizeof path, "%s/%s.fifo", argv[1], argv[2]);
    int fifo = open(path, O_RDWR); /* for writing as well: it never comes to its end */
    count(BEGUN);
    for (;;) {
        char letter;
        unsigned long long told;
        if (read(fifo, text, COMMAND) != COMMAND || sscanf(text, "%c %llu", &letter, &told) != 2) continue;
        if (letter == 'p') set(PONG, told);
        if (letter == 'r') {
            count(TAKEN);
            return 0;
        }
        end(letter);
    }
}
