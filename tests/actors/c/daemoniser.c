/* A test actor whose children try to outlive it: `daemoniser PORT PIDFILE`. It binds PORT, forks
 * a plain child, and a daemon by the double fork with setsid, both of which keep the listening
 * socket; writes their pids to PIDFILE, a line each life; then sleeps. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void sleep_for_ever(void) {
    for (;;) pause();
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int failed = bind(fd, (struct sockaddr *)&addr, sizeof addr) || listen(fd, 8);
    int error = errno;
    int pids[2];
    if (pipe(pids)) return 3;
    pid_t child = fork();
    if (child == 0) sleep_for_ever();
    pid_t between = fork();
    if (between == 0) {
        setsid();
        pid_t daemon = fork();
        if (daemon == 0) sleep_for_ever();
        if (write(pids[1], &daemon, sizeof daemon) < 0) _exit(1);
        _exit(0);
    }
    waitpid(between, NULL, 0);
    pid_t daemon = 0;
    if (read(pids[0], &daemon, sizeof daemon) < 0) return 4;
    FILE *file = fopen(argv[2], "a");
    if (!file) return 5;
    fprintf(file, "%s %d %d %d %s\n", getenv("REFRAIN_LIFE"), getpid(), child, daemon,
            failed ? strerror(error) : "bound");
    fclose(file);
    sleep_for_ever();
}
