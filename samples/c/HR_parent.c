/*
 * HR_parent CHILD [CRASHES [INTERVAL_MS]]: the direct actor. Runs CHILD with hrfexecl, waits until it has come a
 * bit further, and crashes, each time in another way; at last it checks what the child has written and ends cleanly.
 *
 *   make -C samples/c
 *   target/debug/c_init --once samples/c/restart_spawn.ini
 */
#define _POSIX_C_SOURCE 200809L
#include "transcript.h"

#include <signal.h>

/* Waits until the child has committed so many lines. */
static void wait_for(struct transcript *transcript, uint32_t lines)
{
    while (lines_of(transcript->committed) < lines)
        sleep_ms(5);
}

/* How this crash looks: all of them are abnormal ends (SPEC H8). */
static const char *const kinds[] = {
    "null pointer (SIGSEGV)",
    "division by zero (SIGFPE)",
    "invalid instruction (SIGILL)",
    "plain exit, without the exit handler",
};

static void crash(unsigned kind)
{
    volatile int *volatile nowhere = NULL; /* the compiler must neither know nor optimise */

    if (kind == 0)
        *nowhere = 1;
    /* A division may as well answer 0, depending on the machine: the signal is what the kernel makes of it. */
    if (kind == 1)
        raise(SIGFPE);
    if (kind == 2)
        raise(SIGILL);
    exit(3);
}

static int is_the_song(const struct transcript *transcript)
{
    char text[ROOM] = "";
    uint64_t committed = transcript->committed;

    for (int line = 0; line < LINES; line++) {
        strcat(text, song[line]);
        strcat(text, "\n");
    }
    return bytes_of(committed) == strlen(text) && memcmp(text, transcript->text, strlen(text)) == 0;
}

int main(int argc, char **argv)
{
    struct transcript *transcript = open_transcript();
    PmmName child = {"RAM", "HR_child"};
    unsigned crashes = argc > 2 ? (unsigned)atoi(argv[2]) : 4;
    const char *interval = argc > 3 ? argv[3] : "200";
    unsigned crashed = (unsigned)transcript->crashes;
    int aid;

    if (argc < 2) {
        fputs("HR_parent CHILD [CRASHES [INTERVAL_MS]]\n", stderr);
        HR_EXIT_HDL();
        return 2;
    }
    /* The child ended with the life before this one; the controller restarts direct members only. */
    aid = hrfexecl(&child, argv[1], NULL, NULL, argv[1], interval, (char *)NULL);
    if (aid < 0)
        give_up("hrfexecl");
    printf("life %ld of the parent runs the child as aid %d\n", hr_life(), aid);
    if (crashed < crashes) {
        /* The crashes are spread over the song; each waits for a line, never for a time. */
        wait_for(transcript, LINES * (crashed + 1) / (crashes + 1));
        printf("crash %u of %u: %s\n", crashed + 1, crashes, kinds[crashed % 4]);
        fflush(stdout);
        transcript->crashes = crashed + 1;
        crash(crashed % 4);
    }
    wait_for(transcript, LINES);
    printf("restart_spawn: %u crashes, %d lines, transcript %s\n", crashed, LINES,
           is_the_song(transcript) ? "right" : "wrong");
    HR_EXIT_HDL();
    return 0;
}
