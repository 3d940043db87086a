/*
 * HR_child INTERVAL_MS: the indirect actor. Says the song, a line at a time, from where the life before it
 * stopped, and ends cleanly after the last. Run by HR_parent, again after every restart of their group.
 */
#define _POSIX_C_SOURCE 200809L
#include "transcript.h"

int main(int argc, char **argv)
{
    struct transcript *transcript = open_transcript();
    long interval = argc > 1 ? atol(argv[1]) : 200;
    uint64_t committed = transcript->committed;

    for (uint32_t line = lines_of(committed); line < LINES; line++) {
        uint32_t bytes = bytes_of(committed);
        int room = (int)sizeof(transcript->text) - (int)bytes;

        sleep_ms(interval);
        /* Print, then commit. */
        printf("%2u  %s\n", line + 1, song[line]);
        fflush(stdout);
        bytes += (uint32_t)snprintf(transcript->text + bytes, (size_t)room, "%s\n", song[line]);
        committed = (uint64_t)(line + 1) << 32 | bytes;
        transcript->committed = committed;
    }
    HR_EXIT_HDL();
    exit(0);
}
