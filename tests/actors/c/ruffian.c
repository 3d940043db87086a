/* A test actor with bad manners: `ruffian KIND FILE`. Says into FILE, a line a life, that it is
 * there, before it misbehaves:
 *   deaf      ignores every signal that can be ignored
 *   fdless    closes every fd
 *   stderr    closes stdin and stdout and writes without end to stderr
 *   scribble  writes garbage into its own socket to the controller
 *   polite    says "told" into FILE at SIGTERM and ends */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *file_name;

static void say(const char *text) {
    int fd = open(file_name, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (write(fd, text, strlen(text)) < 0) _exit(9);
    close(fd);
}

static void told(int signal) {
    (void)signal;
    say("told\n");
    _exit(0);
}

static void scribble(void) {
    const char *number = getenv("REFRAIN_FD");
    char frame[8192];
    if (!number) return;
    int fd = atoi(number);
    for (int i = 0; i < 200; i++) {
        for (size_t at = 0; at < sizeof frame; at++) frame[at] = (char)rand();
        send(fd, frame, (size_t)rand() % sizeof frame, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    file_name = argv[2];
    if (!strcmp(argv[1], "deaf"))
        for (int signal = 1; signal < 32; signal++) sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    if (!strcmp(argv[1], "polite")) signal(SIGTERM, told);
    if (!strcmp(argv[1], "fdless"))
        for (int fd = 0; fd < 1024; fd++) close(fd);
    if (!strcmp(argv[1], "scribble")) scribble();
    char line[64];
    snprintf(line, sizeof line, "life %s\n", getenv("REFRAIN_LIFE"));
    say(line);
    if (!strcmp(argv[1], "stderr")) {
        memset(line, 'e', sizeof line);
        line[sizeof line - 1] = '\n';
        close(0);
        close(1);
        while (write(2, line, sizeof line) > 0) continue;
    }
    for (;;) pause();
}
