/* An actor with a second thread: it cannot stop by itself when its group restarts. */
#include <pthread.h>
#include <unistd.h>

static void *sleeper(void *unused) {
    for (;;) pause();
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, 0, sleeper, 0);
    for (;;) pause();
}
