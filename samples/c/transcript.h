/*
 * What HR_parent and HR_child share: the song, and the transcript of it in persistent memory.
 *
 * The child is killed with its parent at any instruction, also between printing a line and noting that it did. So
 * it prints first and commits then: a line may come twice on the console, none is ever missing. The transcript is
 * exact: a line is written behind what is committed, where it does not count yet, and then one store of one word
 * makes it count.
 */
#ifndef TRANSCRIPT_H
#define TRANSCRIPT_H

#include <hr/hr.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define LINES 8
#define ROOM 4096

/* What the child says, a line at a time (Robert Burns, 1788). */
static const char *const song[LINES] = {
    "Should auld acquaintance be forgot,",
    "And never brought to mind?",
    "Should auld acquaintance be forgot,",
    "And auld lang syne!",
    "For auld lang syne, my dear,",
    "For auld lang syne,",
    "We'll tak a cup o' kindness yet,",
    "For auld lang syne.",
};

/* The block. All zero in the group's first life: nothing said, nothing crashed. */
struct transcript {
    _Atomic uint64_t committed; /* lines in bits 32 to 63, bytes of text in bits 0 to 31 */
    _Atomic uint64_t crashes;   /* how often the parent has crashed: the parent's word */
    char text[ROOM - 16];
};

static inline uint32_t lines_of(uint64_t committed)
{
    return (uint32_t)(committed >> 32);
}

static inline uint32_t bytes_of(uint64_t committed)
{
    return (uint32_t)committed;
}

/* A line on stderr, and a clean end: what cannot work in this life will not work in the next. */
static inline void give_up(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, hr_error());
    HR_EXIT_HDL();
    exit(1);
}

static inline struct transcript *open_transcript(void)
{
    PmmName name = {"RAM", "restart_spawn.transcript"};
    VmAddr addr;

    if (pmmAllocate(&addr, &name, sizeof(struct transcript), HR_GROUP_KEY, HR_GROUP_KEYSIZE) != K_OK)
        give_up("pmmAllocate");
    return (struct transcript *)addr;
}

static inline void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&time, NULL);
}

#endif
