/* A program whose constructor starts a thread: a fork of it, loaded, would lose that thread. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *beat(void *unused) {
    for (;;) pause();
    return unused;
}

__attribute__((constructor)) static void start(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, beat, NULL);
}

int main(int argc, char **argv) {
    FILE *file = argc > 1 ? fopen(argv[1], "a") : NULL;
    if (!file) return 2;
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "Threads: %s", line) == 1) fprintf(file, "threads %s\n", line);
    fclose(file);
    for (;;) pause();
}
