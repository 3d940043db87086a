/* The actor that everyone restarts: the site, the peers, and the bare fork+exec.
 * usage: actor LANE INDEX TOUCH STORM */
#include "stamp.h"

int main(int argc, char **argv)
{
    uint64_t main_ns = now();
    struct lane lane = { 0 };
    if (argc < 5)
        return 2;
    unsigned index = lane_from(&lane, argv + 1);
    lane_map(&lane);
    life(&lane, index, main_ns);
}
