/* What a life of the benchmark does, shared by the actor and by the bare mechanisms: it stamps the
 * time at which it began, waits until it is told how to end, stamps that time, and ends.
 *
 * A lane is a directory: `stamps` (the file below, mapped), `began` (a FIFO that is written to once
 * `wanted` lives have begun) and `go` (a FIFO that says how life 0 is to end). The layout is known to
 * ../src/lane.rs and ../actors/bench_actor.py, too. Never called by the product. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RECORDS = 1024 };

struct record {
    _Atomic uint64_t main_ns, fault_ns, pid, extra[5];
};

struct stamps {
    _Atomic uint64_t began, wanted, unused[6];
    struct record record[RECORDS];
};

struct lane {
    const char *dir;
    struct stamps *stamps;
    size_t touch;
    int storm;
};

static inline uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline int lane_open(const struct lane *lane, const char *name, int flags)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", lane->dir, name);
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        perror(path);
        _exit(99);
    }
    return fd;
}

static inline void lane_map(struct lane *lane)
{
    int fd = lane_open(lane, "stamps", O_RDWR);
    lane->stamps = mmap(0, sizeof *lane->stamps, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (lane->stamps == MAP_FAILED)
        _exit(98);
    close(fd);
}

/* Memory that the kernel must tear down page by page when the life ends. */
static inline void lane_touch(const struct lane *lane)
{
    if (!lane->touch)
        return;
    char *memory = mmap(0, lane->touch, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        _exit(97);
    madvise(memory, lane->touch, MADV_NOHUGEPAGE);
    for (size_t at = 0; at < lane->touch; at += 4096)
        memory[at] = 1;
}

/* Ends this life: s faults, k kills itself, e exits. */
static inline void end_as(struct record *record, int how)
{
    atomic_store(&record->fault_ns, now());
    if (how == 's')
        *(volatile int *)0 = 0;
    if (how == 'k')
        kill(getpid(), SIGKILL);
    _exit(1);
}

/* One life, from the stamp of its beginning to its end. A storm uses one record a life. */
static inline void life(struct lane *lane, unsigned index, uint64_t main_ns)
{
    struct stamps *stamps = lane->stamps;
    if (lane->storm)
        index = (unsigned)(atomic_load(&stamps->began) % RECORDS);
    struct record *record = &stamps->record[index];
    atomic_store(&record->main_ns, main_ns);
    atomic_store(&record->pid, (uint64_t)getpid());
    lane_touch(lane);
    uint64_t began = atomic_fetch_add(&stamps->began, 1) + 1;
    uint64_t wanted = atomic_load(&stamps->wanted);
    if (lane->storm && began < wanted)
        end_as(record, lane->storm);
    if (began == wanted) {
        int fd = lane_open(lane, "began", O_RDWR);
        if (write(fd, "b", 1) != 1)
            _exit(96);
        close(fd);
    }
    if (!lane->storm && index != 0)
        for (;;)
            pause();
    int go = lane_open(lane, "go", O_RDWR);
    char how = 0;
    while (read(go, &how, 1) != 1)
        ;
    end_as(record, how);
}

/* LANE INDEX TOUCH STORM, in that order, from the command line. STORM is 0, or how each life ends. */
static inline unsigned lane_from(struct lane *lane, char **word)
{
    lane->dir = word[0];
    lane->touch = strtoull(word[2], 0, 10);
    lane->storm = word[3][0] == '0' ? 0 : word[3][0];
    return (unsigned)atoi(word[1]);
}
