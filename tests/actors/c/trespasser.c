/* A test actor that tries what it is not to succeed in: `trespasser FILE PATHS... -- PIDS... [exit]`. Says
 * into FILE, a line each: the operation, on what, and the error that it met, or "done". Then it parks, or
 * exits. PATHS: opened for reading and for writing, truncated, unlinked, listed, connected to. PIDS:
 * signalled, traced, read from and written to, and their fds taken, by every door that Linux has;
 * `hr_ctrl` and `nucleus` stand for those above it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static FILE *out;

static void said(const char *what, const char *on, int succeeded) {
    fprintf(out, "%s %s: %s\n", what, on, succeeded ? "done" : strerrorname_np(errno));
}

static void opened(const char *what, const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC);
    said(what, path, fd >= 0);
    if (fd >= 0) close(fd);
}

static void try_path(const char *path) {
    opened("read", path, O_RDONLY);
    opened("write", path, O_RDWR);
    said("truncate", path, truncate(path, 0) == 0);
    said("list", path, opendir(path) != 0);
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    strncpy(at.sun_path, path, sizeof at.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    said("connect", path, connect(fd, (void *)&at, sizeof at) == 0);
    close(fd);
    said("unlink", path, unlink(path) == 0);
}

/* The process of this name that one descends from. */
static pid_t above(const char *name) {
    for (pid_t pid = getppid(); pid > 1;) {
        char path[64], comm[64] = "";
        int parent = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *stat = fopen(path, "re");
        if (!stat || fscanf(stat, "%*d (%63[^)]) %*c %d", comm, &parent) != 2) exit(8);
        fclose(stat);
        if (!strcmp(comm, name)) return pid;
        pid = parent;
    }
    exit(7);
}

static void try_pid(const char *text) {
    pid_t pid = atoi(text);
    if (!pid) pid = above(text);
    char path[64], byte = 0;
    said("signal", text, kill(pid, 0) == 0);
    said("trace", text, ptrace(PTRACE_SEIZE, pid, 0, 0) == 0);
    const char *files[] = { "mem", "environ", "maps" };
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, files[i]);
        opened(files[i], path, O_RDONLY);
    }
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    said("list-fds", text, opendir(path) != 0);
    for (int fd = 0; fd < 40; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
        opened("open-fd", path, O_RDWR);
    }
    /* Wherever it is: who may not look is told so first. */
    struct iovec here = { &byte, 1 }, there = { &here, 1 };
    said("peek", text, process_vm_readv(pid, &here, 1, &there, 1, 0) == 1);
    said("poke", text, process_vm_writev(pid, &here, 1, &there, 1, 0) == 1);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    said("pidfd-signal", text, pidfd >= 0 && syscall(SYS_pidfd_send_signal, pidfd, 0, 0, 0) == 0);
    for (int fd = 0; fd < 40; fd++)
        said("take-fd", text, pidfd >= 0 && syscall(SYS_pidfd_getfd, pidfd, fd, 0) >= 0);
    close(pidfd);
}

int main(int argc, char **argv) {
    int at = 2;
    out = fopen(argv[1], "ae");
    if (!out || atoi(getenv("REFRAIN_LIFE"))) for (;;) pause();
    for (; at < argc && strcmp(argv[at], "--"); at++) try_path(argv[at]);
    while (++at < argc && strcmp(argv[at], "exit")) try_pid(argv[at]);
    fprintf(out, "tried\n");
    fclose(out);
    if (at < argc) return 0;
    for (;;) pause();
}
