/* A test actor that keeps forking children that daemonise, as fast as 20 at a time: the sweep
 * must catch those that are born while it looks. `forkstorm PIDFILE`; the life's pid goes there. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    FILE *file = fopen(argv[1], "a");
    if (!file) return 3;
    fprintf(file, "%s %d\n", getenv("REFRAIN_LIFE"), getpid());
    fclose(file);
    for (int i = 0; i < 20; i++) {
        if (fork() == 0) {
            /* Each hands itself on to a fresh process for ever: its pid is never the same. */
            for (;;) {
                setsid();
                if (fork() != 0) _exit(0);
                usleep(10000);
            }
        }
    }
    for (;;) pause();
}
