/* The bare mechanisms, each as little as Linux lets it be: what the site is measured against.
 *
 * usage: limit MODE CPU MEMBERS LANE INDEX TOUCH STORM [PROGRAM ARG...]
 * MODE  handler  the dying life's fault handler wakes the standby (one member)
 *       pidfd    a waiter in epoll wakes the standby when the life's pidfd is readable; with more
 *                members it kills them all, reaps them all and wakes all standbys
 *       keeper   as pidfd, but a second process shares the standby's memory, so that the life's end does
 *                not wait until the memory is torn down
 *       fork     the same waiter forks the next life on demand
 *       exec     the same waiter starts PROGRAM by vfork and exec
 * CPU   the one CPU for everything, or -1
 * It runs until it is killed. */
#include "stamp.h"
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum mode { HANDLER, PIDFD, KEEPER, FORK, EXEC };

struct member {
    int pid, pidfd;         /* the life that runs */
    int next, next_pidfd;   /* the standby; 0 for none */
    uint32_t serial;        /* of the life that runs */
    _Atomic uint32_t *wake; /* the highest serial that may run; in its line also keepers, below */
};

/* Words after `wake` of the keepers of an even and of an odd serial: their pids. */
static _Atomic uint32_t *keeper_of(struct member *member, uint32_t serial)
{
    return member->wake + 1 + serial % 2;
}

static enum mode mode;
static struct lane lane;
static struct member *members;
static unsigned count;
static int epoll;
static char **program;
static int parent;

static void die(const char *what)
{
    perror(what);
    _exit(90);
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0);
}

static void wake(struct member *member)
{
    atomic_fetch_add(member->wake, 1);
    futex_wake(member->wake);
}

static struct member *own;

static void on_fault(int number)
{
    wake(own);
    sched_yield();
    /* The instruction faults again and the life ends as it would have. */
    signal(number, SIG_DFL);
}

static void catch_faults(struct member *member)
{
    static char stack[16384];
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_ONSTACK };
    own = member;
    sigaltstack(&alternate, 0);
    sigaction(SIGSEGV, &action, 0);
    stack[0] = stack[sizeof stack - 1] = 0;
}

static int keep(void *unused)
{
    (void)unused;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(92);
    syscall(SYS_close_range, 0, ~0u, 0);
    for (;;)
        pause();
}

/* In a standby: a sibling that shares its memory and outlives it. */
static void make_keeper(struct member *member, uint32_t serial)
{
    static char stack[16384] __attribute__((aligned(16)));
    int flags = CLONE_VM | CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD;
    if (clone(keep, stack + sizeof stack, flags, 0, (pid_t *)keeper_of(member, serial)) < 0)
        die("clone");
}

static void end_keeper(struct member *member, uint32_t serial)
{
    int pid = (int)atomic_load(keeper_of(member, serial));
    kill(pid, SIGKILL);
    while (waitpid(pid, 0, 0) < 0 && errno == EINTR)
        ;
}

/* The children of a limit that is killed must not stay behind. */
static void end_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(92);
}

/* A child that runs a life: at once, or when `serial` is called. */
static int fork_life(struct member *member, uint32_t serial)
{
    int pid = fork();
    if (pid < 0)
        die("fork");
    if (pid)
        return pid;
    end_with_parent();
    /* The pidfds of all the others, which would have to be closed when the life ends. */
    if (mode != FORK)
        syscall(SYS_close_range, 3, ~0u, 0);
    if (mode == HANDLER)
        catch_faults(member);
    if (mode == KEEPER)
        make_keeper(member, serial);
    /* What the life will use is touched before it sleeps. */
    (void)now();
    (void)atomic_load(&lane.stamps->wanted);
    while (atomic_load(member->wake) < serial)
        syscall(SYS_futex, member->wake, FUTEX_WAIT, serial - 1, 0, 0, 0);
    uint64_t main_ns = now();
    life(&lane, (unsigned)(member - members), main_ns);
    _exit(0);
}

static int exec_life(void)
{
    int pid = vfork();
    if (pid < 0)
        die("vfork");
    if (pid == 0) {
        end_with_parent();
        execv(program[0], program);
        _exit(91);
    }
    return pid;
}

static int watch(struct member *member, int pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = (uint32_t)(member - members) };
    if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        die("pidfd");
    return fd;
}

static void make_standby(struct member *member)
{
    member->next = fork_life(member, member->serial + 1);
    member->next_pidfd = watch(member, member->next);
}

static void promote(struct member *member)
{
    member->pid = member->next;
    member->pidfd = member->next_pidfd;
    member->serial++;
    member->next = 0;
}

static void start_without_standby(struct member *member)
{
    member->serial++;
    if (mode == FORK)
        atomic_fetch_add(member->wake, 1);
    member->pid = mode == FORK ? fork_life(member, member->serial) : exec_life();
    member->pidfd = watch(member, member->pid);
}

static void reap(struct member *member)
{
    while (waitpid(member->pid, 0, 0) < 0 && errno == EINTR)
        ;
    /* By hand: a child forked since has the pidfd, too, so that closing it is not enough. */
    epoll_ctl(epoll, EPOLL_CTL_DEL, member->pidfd, 0);
    close(member->pidfd);
}

/* One member's life has ended: on with all of them. */
static void restart(void)
{
    int standbys = mode == HANDLER || mode == PIDFD || mode == KEEPER;
    if ((mode == PIDFD || mode == KEEPER) && count == 1)
        wake(&members[0]);
    for (unsigned i = 0; count > 1 && i < count; i++)
        syscall(SYS_pidfd_send_signal, members[i].pidfd, SIGKILL, 0, 0);
    for (unsigned i = 0; i < count; i++)
        if (standbys || count > 1)
            reap(&members[i]);
    for (unsigned i = 0; standbys && count > 1 && i < count; i++)
        wake(&members[i]);
    for (unsigned i = 0; i < count; i++) {
        if (standbys) {
            if (mode == KEEPER)
                end_keeper(&members[i], members[i].serial);
            promote(&members[i]);
            continue;
        }
        struct member old = members[i];
        start_without_standby(&members[i]);
        if (count == 1)
            reap(&old);
    }
    for (unsigned i = 0; standbys && i < count; i++)
        make_standby(&members[i]);
}

static void begin(void)
{
    _Atomic uint32_t *words =
        mmap(0, count * 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    members = calloc(count, sizeof *members);
    if (words == MAP_FAILED || epoll < 0 || !members)
        die("begin");
    for (unsigned i = 0; i < count; i++) {
        members[i].wake = words + i * 16;
        if (mode == FORK || mode == EXEC) {
            start_without_standby(&members[i]);
            continue;
        }
        make_standby(&members[i]);
        wake(&members[i]);
        promote(&members[i]);
        make_standby(&members[i]);
    }
}

int main(int argc, char **argv)
{
    static const char *const names[] = { "handler", "pidfd", "keeper", "fork", "exec" };
    if (argc < 8)
        return 2;
    while (mode < 5 && strcmp(argv[1], names[mode]))
        mode++;
    if (mode == 5 || (mode == EXEC && argc < 9))
        return 2;
    int cpu = atoi(argv[2]);
    if (cpu >= 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (sched_setaffinity(0, sizeof one, &one))
            die("sched_setaffinity");
    }
    parent = getpid();
    count = (unsigned)atoi(argv[3]);
    lane_from(&lane, argv + 4);
    lane_map(&lane);
    program = argv + 8;
    begin();
    for (;;) {
        struct epoll_event event;
        int found = epoll_wait(epoll, &event, 1, -1);
        if (found < 0 && errno != EINTR)
            die("epoll_wait");
        if (found == 1)
            restart();
    }
}
