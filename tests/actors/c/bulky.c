/* An actor whose template has much to copy at a fork: it touches memory before main. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *volatile memory;

__attribute__((constructor)) static void touch(void) {
    size_t size = 512u << 20;
    memory = malloc(size);
    if (memory) memset(memory, 1, size);
}

int main(void) {
    for (;;) pause();
}
