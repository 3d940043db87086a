/* Says where its code, data and stack are and how it was called, a line a life, into its first
 * argument; then sleeps. Compiles dynamically or statically, with any C library. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int data = 42;

int main(int argc, char **argv) {
    FILE *file = argc > 1 ? fopen(argv[1], "a") : NULL;
    if (!file) return 2;
    char exe[4096] = "";
    if (readlink("/proc/self/exe", exe, sizeof exe - 1) < 0) return 3;
    const char *life = getenv("REFRAIN_LIFE");
    fprintf(file, "life=%s code=%p data=%p value=%d argv0=%s exe=%s\n", life ? life : "none",
            (void *)main, (void *)&data, data, argv[0], exe);
    data = 43;
    fclose(file);
    for (;;) pause();
}
