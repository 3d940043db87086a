/* Fails in the way that its argument says, four calls deep, and writes what its handler saw to stdout: the
 * words of `Failure` in runtime/abi/src/control.rs, in their order. Then it waits to be ended.
 * Compiled by backtrace.rs, each time with other flags. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

struct failure {
    uint32_t serial, signal, code, stack_len;
    uint64_t address, instruction, stack_pointer, frame_pointer, link;
    uint32_t thread, reserved;
    uint8_t stack[2560];
};

static struct failure failure;
static uint8_t alternate[65536];

static void handler(int signal, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    failure.serial = 1;
    failure.signal = signal;
    failure.code = info->si_code;
    failure.address = (uintptr_t)info->si_addr;
    failure.thread = getpid();
#if defined(__x86_64__)
    failure.instruction = at->uc_mcontext.gregs[REG_RIP];
    failure.stack_pointer = at->uc_mcontext.gregs[REG_RSP];
    failure.frame_pointer = at->uc_mcontext.gregs[REG_RBP];
#elif defined(__aarch64__)
    failure.instruction = at->uc_mcontext.pc;
    failure.stack_pointer = at->uc_mcontext.sp;
    failure.frame_pointer = at->uc_mcontext.regs[29];
    failure.link = at->uc_mcontext.regs[30];
#endif
    struct iovec to = {failure.stack, sizeof failure.stack};
    struct iovec from = {(void *)failure.stack_pointer, sizeof failure.stack};
    ssize_t copied = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
    failure.stack_len = copied > 0 ? copied : 0;
    if (write(1, &failure, sizeof failure) != sizeof failure)
        _exit(1);
    for (;;)
        pause();
}

/* Volatile, so that each function has a frame of its own and a call in the middle. */
volatile int depth;
int *volatile nowhere;
void (*volatile no_function)(void);
volatile int zero;

__attribute__((noinline)) int inner(const char *how) {
    volatile char frame[100];
    frame[depth] = 1;
    if (!strcmp(how, "write"))
        *nowhere = 1;
    if (!strcmp(how, "call"))
        no_function();
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "signal"))
        raise(SIGUSR1);
    return depth + frame[depth];
}

__attribute__((noinline)) int middle(const char *how) {
    volatile char frame[200];
    frame[depth] = 1;
    int below = inner(how);
    return below + frame[depth];
}

__attribute__((noinline)) int outer(const char *how) {
    int below = middle(how);
    return below * 2 + depth;
}

/* A fault inside of the program's own handler: the backtrace goes on through the signal's frame. */
static void own_handler(int signal) {
    (void)signal;
    depth += outer("write");
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    /* Whoever started it may be gone. */
    alarm(60);
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigaltstack(&stack, NULL);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGABRT, &action, NULL);
    signal(SIGUSR1, own_handler);
    return outer(argv[1]) + 1;
}
