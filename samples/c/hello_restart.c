/*
 * The smallest hot restart, in C: a counter in persistent memory that outlives a crash.
 *
 *   make -C samples/c
 *   target/debug/c_init --once samples/c/hello_restart.ini
 *
 * The first life finds no block of the name, gets a zeroed one, counts, and loads from a null pointer. The next
 * one finds the block as it was left, counts on, and ends cleanly.
 */
#include <hr/hr.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    PmmName name = {"RAM", "hello_restart.counter"};
    volatile int *counter;
    VmAddr addr;
    KnError error;

    /* The group's key: the block goes when the group does. */
    error = pmmAllocate(&addr, &name, sizeof(*counter), HR_GROUP_KEY, HR_GROUP_KEYSIZE);
    if (error != K_OK) {
        fprintf(stderr, "%s (%d)\n", hr_error(), error);
        HR_EXIT_HDL();
        exit(1);
    }
    counter = (volatile int *)addr;
    *counter += 1;

    /* stdout is a pipe to the console: flushed, or the crash would swallow the line. */
    if (*counter == 1) {
        volatile int *volatile nowhere = NULL; /* the compiler must neither know nor optimise */

        puts("hello: the counter is 1; now I load from a null pointer");
        fflush(stdout);
        return *nowhere;
    }
    printf("hello again: the counter is %d, in a block that a life before me left at %p\n", *counter,
           (void *)addr);
    /* Without this, even a return from main would be an abnormal end, and I would be back. */
    HR_EXIT_HDL();
    exit(0);
}
