/* Loads its table once, makes that the image of later lives, then says a line a life into its first
 * argument: who it is, where the table is, and what it holds. Each time the table was loaded there is a
 * line in the second argument. Ends by SIGSEGV from outside. Links libhr. */
#include <hr/hr.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static FILE *append(const char *path) {
    FILE *file = fopen(path, "a");
    if (!file) exit(3);
    return file;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    FILE *loads = append(argv[2]);
    fprintf(loads, "loaded\n");
    fclose(loads);
    unsigned long *table = malloc(1 << 20);
    if (!table) return 3;
    for (unsigned long i = 0; i < (1 << 20) / sizeof *table; i++) table[i] = i;
    const char *before = getenv("REFRAIN_LIFE");
    /* Not flushed by the program: every life would say it again. */
    printf("table loaded\n");

    int image = hr_image_here();

    const char *life = getenv("REFRAIN_LIFE");
    FILE *out = append(argv[1]);
    if (image < 0) fprintf(out, "error: %s\n", hr_error());
    fprintf(out, "image=%d life=%s number=%ld table=%p value=%lu kept=%d again=%d\n", image,
            life ? life : "none", hr_life(), (void *)table, table[4711], before == life,
            hr_image_here());
    fclose(out);
    table[4711] = 0;
    printf("life %ld\n", hr_life());
    fflush(stdout);
    for (;;) pause();
}
