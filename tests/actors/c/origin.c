/* Calls into a library that is found by $ORIGIN only; says what it answers. */
#include <stdio.h>
#include <unistd.h>

int answer(void);

int main(int argc, char **argv) {
    FILE *file = argc > 1 ? fopen(argv[1], "a") : NULL;
    if (!file) return 2;
    fprintf(file, "answer %d\n", answer());
    fclose(file);
    for (;;) pause();
}
