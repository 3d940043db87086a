/* A test actor whose first life keeps 20 chains of daemons going, each link a fresh process that
 * hands on to the next: the sweep must catch those that are born while it looks.
 * `forkstorm LIFEFILE STORMFILE`: each life writes a line to the one, each link a byte to the other. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void chain(int storm) {
    for (;;) {
        setsid();
        if (fork() != 0) _exit(0);
        if (write(storm, "*", 1) < 0) _exit(1);
        usleep(1000);
    }
}

int main(int argc, char **argv) {
    const char *life = getenv("REFRAIN_LIFE");
    if (argc != 3 || !life) return 2;
    FILE *file = fopen(argv[1], "a");
    int storm = open(argv[2], O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (!file || storm < 0) return 3;
    fprintf(file, "%s\n", life);
    fclose(file);
    if (!strcmp(life, "0"))
        for (int i = 0; i < 20; i++)
            if (fork() == 0) chain(storm);
    for (;;) pause();
}
