/* An actor that does nothing: what an idle one costs. */
#include <unistd.h>

int main(void)
{
    for (;;)
        pause();
}
