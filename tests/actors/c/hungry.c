/* A test actor that takes what it is not to have: `hungry FILE KIND`. Its first life does, and says into
 * FILE what came of it, a line each; later ones say that they are there, and park.
 *   memory   takes 256 MiB and writes to all of it
 *   child    has a child do so, and says how that ended
 *   forks    forks until it is refused, says how often it was not, and exits with 1
 *   files    opens files until it is refused, and says how many it has open
 *   spins    for ever
 *   who      says whose rights it has; every life does */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *file_name;

__attribute__((format(printf, 1, 2)))
static void say(const char *format, ...) {
    char line[512];
    va_list values;
    va_start(values, format);
    int len = vsnprintf(line, sizeof line, format, values);
    va_end(values);
    int fd = open(file_name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (write(fd, line, (size_t)len) != len) _exit(9);
    close(fd);
}

static void take_memory(void) {
    size_t size = 256 << 20;
    char *place = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) {
        say("refused: %s\n", strerror(errno));
        return;
    }
    memset(place, 1, size);
    say("had it all\n");
}

static void take_pids(void) {
    int count = 0;
    for (;;) {
        pid_t child = fork();
        if (child == 0) for (;;) pause();
        if (child < 0) break;
        count++;
    }
    say("forked %d: %s\n", count, strerror(errno));
    exit(1);
}

static void who(void) {
    gid_t groups[64];
    int count = getgroups(64, groups);
    /* What a program does that logs to a file by name. */
    int out = open("/dev/stdout", O_WRONLY | O_CLOEXEC);
    say("life=%s uid=%d gid=%d groups=%d home=%s user=%s nnp=%d nice=%d stdout=%s\n", getenv("REFRAIN_LIFE"),
        getuid(), getgid(), count, getenv("HOME"), getenv("USER"), prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
        getpriority(PRIO_PROCESS, 0), out < 0 ? strerror(errno) : "opens");
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    file_name = argv[1];
    const char *kind = argv[2], *life = getenv("REFRAIN_LIFE");
    if (!strcmp(kind, "who")) who();
    else if (strcmp(life, "0")) say("life %s\n", life);
    else if (!strcmp(kind, "memory")) take_memory();
    else if (!strcmp(kind, "child")) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            take_memory();
            _exit(0);
        }
        waitpid(child, &status, 0);
        say("child ended by %d\n", WTERMSIG(status));
    } else if (!strcmp(kind, "forks")) take_pids();
    else if (!strcmp(kind, "files")) {
        while (open("/dev/null", O_RDONLY) >= 0) continue;
        int highest = 0;
        for (int fd = 0; fd < 4096; fd++) if (fcntl(fd, F_GETFD) >= 0) highest = fd;
        close(highest);
        say("highest %d limit %ld\n", highest, sysconf(_SC_OPEN_MAX));
    } else if (!strcmp(kind, "spins")) {
        say("spins\n");
        for (;;) __asm__ volatile("");
    }
    for (;;) pause();
}
