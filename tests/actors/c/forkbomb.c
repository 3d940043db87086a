/* A test actor each life of which is a fork bomb: each child forks for ever, so that whoever kills those
 * that are listed meets others that are not. The limit of processes of its actor bounds it.
 * `forkbomb LIFEFILE BORNFILE`: each life writes a line to the one, each child a byte to the other. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void bomb(int born) {
    signal(SIGCHLD, SIG_IGN);
    if (write(born, "*", 1) < 0) _exit(1);
    for (;;)
        if (fork() == 0 && write(born, "*", 1) < 0) _exit(1);
}

int main(int argc, char **argv) {
    const char *life = getenv("REFRAIN_LIFE");
    if (argc != 3 || !life) return 2;
    FILE *file = fopen(argv[1], "a");
    int born = open(argv[2], O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (!file || born < 0) return 3;
    fprintf(file, "%s\n", life);
    fclose(file);
    if (fork() == 0) bomb(born);
    for (;;) pause();
}
