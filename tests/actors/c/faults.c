/* A test actor that ends its first life by a real fault: `faults KIND`. Later lives sleep. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile int zero, seven = 7;

static void bus(void) {
    FILE *file = tmpfile();
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    page[0] = 1; /* past the end of an empty file */
}

/* Needs a page of stack for each level, and has no last one. */
__attribute__((noinline)) static int deep(int level) {
    volatile char page[4096];
    page[level & 4095] = 1;
    return page[0] + (level < 0 ? 0 : deep(level + 1)) + page[1];
}

int main(int argc, char **argv) {
    const char *life = getenv("REFRAIN_LIFE");
    if (argc == 2 && life && !strcmp(life, "0")) {
        if (!strcmp(argv[1], "segv")) *(volatile int *)(long)zero = 1;
        if (!strcmp(argv[1], "bus")) bus();
#if defined(__x86_64__)
        if (!strcmp(argv[1], "fpe")) zero = seven / zero;
#else
        if (!strcmp(argv[1], "fpe")) raise(SIGFPE);
#endif
        if (!strcmp(argv[1], "ill")) __builtin_trap();
        if (!strcmp(argv[1], "abort")) abort();
        if (!strcmp(argv[1], "term")) raise(SIGTERM);
        if (!strcmp(argv[1], "exit0")) exit(0);
        if (!strcmp(argv[1], "exit3")) exit(3);
        if (!strcmp(argv[1], "_exit")) _exit(4);
        if (!strcmp(argv[1], "return")) return 0;
        if (!strcmp(argv[1], "stack")) return deep(0);
    }
    for (;;) pause();
}
