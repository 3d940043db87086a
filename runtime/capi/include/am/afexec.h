/* am/afexec.h - where ChorusOS 4.0 has <afexec.h>. */
#ifndef AM_AFEXEC_H
#define AM_AFEXEC_H

#include <afexec.h>

#endif
