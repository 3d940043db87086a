/* Takes no notice of SIGABRT, and promises nothing: a life that has to be killed. */
#include <signal.h>
#include <unistd.h>

int main(void)
{
	signal(SIGABRT, SIG_IGN);
	for (;;)
		pause();
}
