/* chPmm.h - <pmm/chPmm.h>, as the ChorusOS 4.0 guide includes it. */
#ifndef CHPMM_H
#define CHPMM_H

#include <pmm/chPmm.h>

#endif
