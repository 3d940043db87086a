/* A test actor whose template lies: `impostor PID`. Before its main it takes over the socket of the
 * template that it is loaded into, says that it is ready, and answers each request for a standby by
 * "here it is", with the pidfd of process PID. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TEMPLATE_SOCKET = 70, FORK = 1, READY = 2, FORKED = 4 };

static void say(const uint32_t *words, size_t count, int fd) {
    struct iovec part = {(void *)words, count * sizeof *words};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    if (sendmsg(TEMPLATE_SOCKET, &message, MSG_NOSIGNAL) < 0) _exit(9);
}

__attribute__((constructor)) static void lie(int argc, char **argv) {
    int kind;
    socklen_t len = sizeof kind;
    if (argc != 2 || getsockopt(TEMPLATE_SOCKET, SOL_SOCKET, SO_TYPE, &kind, &len)) return;
    uint32_t pid = (uint32_t)atoi(argv[1]), request[16];
    say((uint32_t[]){READY}, 1, -1);
    while (recv(TEMPLATE_SOCKET, request, sizeof request, 0) > 0)
        if (request[0] == FORK) say((uint32_t[]){FORKED, request[1], pid}, 3, (int)syscall(SYS_pidfd_open, pid, 0));
    _exit(0);
}

int main(void) {
    for (;;) pause();
}
