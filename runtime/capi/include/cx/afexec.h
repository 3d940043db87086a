/* cx/afexec.h - where ChorusOS 5.0 has <afexec.h>. */
#ifndef CX_AFEXEC_H
#define CX_AFEXEC_H

#include <afexec.h>

#endif
