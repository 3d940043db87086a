/* exec/chExec.h - actorSelf(), where ChorusOS has it. */
#ifndef EXEC_CHEXEC_H
#define EXEC_CHEXEC_H

#include <chorus.h>

#endif
