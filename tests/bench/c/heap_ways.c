/* Ways to note which pages of a shared block change, and to keep what was there: what a transaction on a heap
 * is measured against. Each as little as Linux lets it be, without an allocator or anything else.
 *
 * usage: heap_ways WAY MIB PAGES ROUNDS
 * WAY   undo   the block is read-only; the fault handler copies the page into a saved area and makes it
 *              writable; committing is one store, then the block is read-only again
 *       noted  the block is mapped private and read-only; the fault handler notes the page and makes it writable;
 *              committing copies the changed pages into a record, then home, and drops the private copies
 *       scan   the block is mapped private and writable; committing asks PAGEMAP_SCAN which pages are private,
 *              then as `noted`
 * MIB   the size of the block, all of it resident
 * PAGES changed in each round, evenly spread
 * Prints a line for each round: microseconds. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, REGIONS = 1024 };
enum way { UNDO, NOTED, SCAN };

/* Of linux/fs.h, which may be older than the kernel. */
struct region { uint64_t start, end, categories; };
struct scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t inverted, mask, anyof, returned;
};
#define PAGEMAP_SCAN_CALL _IOWR('f', 16, struct scan)
#define IS_FILE (1 << 2)
#define IS_PRESENT (1 << 3)

static enum way way;
static char *view, *home, *saved;
static size_t bytes;
static uint32_t *numbers;
static _Atomic size_t count;

static void die(const char *what)
{
    perror(what);
    _exit(90);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1e6 + at.tv_nsec / 1e3;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    char *page = (char *)((uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1));
    size_t at = atomic_load_explicit(&count, memory_order_relaxed);
    (void)signal, (void)context;
    if (way == UNDO)
        memcpy(saved + at * PAGE, page, PAGE);
    numbers[at] = (page - view) / PAGE;
    atomic_store_explicit(&count, at + 1, memory_order_release);
    if (mprotect(page, PAGE, PROT_READ | PROT_WRITE))
        _exit(91);
}

/* Copies a run of private pages into the record, then home, and drops them. */
static void publish(char *start, size_t len)
{
    memcpy(saved, start, len);
    atomic_thread_fence(memory_order_release);
    memcpy(home + (start - view), start, len);
    if (madvise(start, len, MADV_DONTNEED))
        die("madvise");
    for (size_t at = 0; at < len; at += PAGE)
        *(volatile char *)(start + at);
}

static void scan(int pagemap)
{
    static struct region found[REGIONS];
    uint64_t from = (uintptr_t)view, end = from + bytes;
    while (from < end) {
        struct scan scan = { .size = sizeof scan, .start = from, .end = end,
            .vec = (uintptr_t)found, .vec_len = REGIONS, .inverted = IS_FILE,
            .mask = IS_FILE | IS_PRESENT, .returned = IS_FILE | IS_PRESENT };
        int regions = ioctl(pagemap, PAGEMAP_SCAN_CALL, &scan);
        if (regions < 0)
            die("PAGEMAP_SCAN");
        for (int at = 0; at < regions; at++)
            publish((char *)found[at].start, found[at].end - found[at].start);
        from = scan.walk_end;
    }
}

static void commit(int pagemap)
{
    if (way == SCAN) {
        scan(pagemap);
        return;
    }
    size_t changed = atomic_load(&count);
    for (size_t at = 0; way == NOTED && at < changed; at++)
        publish(view + (size_t)numbers[at] * PAGE, PAGE);
    atomic_store_explicit(&count, 0, memory_order_release);
    if (mprotect(view, bytes, PROT_READ))
        die("mprotect");
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    way = !strcmp(argv[1], "undo") ? UNDO : !strcmp(argv[1], "noted") ? NOTED : SCAN;
    bytes = strtoul(argv[2], 0, 10) << 20;
    size_t pages = strtoul(argv[3], 0, 10), rounds = strtoul(argv[4], 0, 10);
    int memory = memfd_create("heap", MFD_CLOEXEC), pagemap = open("/proc/self/pagemap", O_RDONLY);
    if (memory < 0 || ftruncate(memory, bytes))
        die("memfd");
    int flags = way == UNDO ? MAP_SHARED : MAP_PRIVATE;
    int prot = way == SCAN ? PROT_READ | PROT_WRITE : PROT_READ;
    home = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    view = mmap(0, bytes, prot, flags, memory, 0);
    saved = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    numbers = calloc(pages, sizeof *numbers);
    if (home == MAP_FAILED || view == MAP_FAILED || saved == MAP_FAILED || !numbers)
        die("mmap");
    memset(home, 1, bytes);
    for (size_t at = 0; at < bytes; at += PAGE)
        *(volatile char *)(view + at);
    struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &action, 0);
    size_t step = bytes / PAGE / pages;
    for (size_t round = 0; round < rounds; round++) {
        double begun = now();
        for (size_t at = 0; at < pages; at++)
            ++*(volatile uint64_t *)(view + at * step * PAGE + 128);
        commit(pagemap);
        printf("%.2f\n", now() - begun);
    }
}
