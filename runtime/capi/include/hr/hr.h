/*
 * hr/hr.h - everything that an actor of a Refrain site may call, in C.
 *
 * hr/hrCtrl.h and pmm/chPmm.h have the calls of ChorusOS: the family hrfexec, hrGetActorGroup, hrKillGroup,
 * HR_EXIT_HDL, sysShutdown; pmmAllocate, pmmFree, pmmFreeAll. This file adds what is Refrain's own.
 *
 * cc $(pkg-config --cflags refrain) -o server server.c $(pkg-config --libs refrain)
 *
 * Every function may be called from any thread; the first call attaches to the site that runs the actor. In a
 * program that was started by hand each fails, and hr_error() says so. docs/c-api.md has all of it in a table.
 */
#ifndef HR_HR_H
#define HR_HR_H

#include <hr/hrCtrl.h>
#include <pmm/chPmm.h>

#ifdef __cplusplus
extern "C" {
#endif

/* hr_image_here() */
#define HR_IMAGE_MADE 0   /* this life has made the image, and goes on */
#define HR_IMAGE_BEGUN 1  /* this life began from the image, here and not in main() */
#define HR_IMAGE_STANDS 2 /* an earlier call in this life has made it, or returned from it */

/*
 * Makes the present state of this life the image from which later lives begin. Call it once, when
 * what takes long is done, and before the life opens files, starts threads or children, or maps
 * blocks. Every later life begins by returning from this call with HR_IMAGE_BEGUN.
 *
 * Kept: memory, environment, arguments, signal handlers, working directory, umask, user id.
 * Not kept: files but 0 to 2, sockets, threads, timers. Random generators of the program's own
 * continue with the same numbers in every life: seed them after this call.
 *
 * -1: not made, and nothing has changed; hr_error() says what is in the way.
 */
int hr_image_here(void);

/* The number of this life: 0 for the first. -1 in a program that is no actor. */
long hr_life(void);

/*
 * Promises that this life will call hr_progress() at least once in every period_ms milliseconds, from
 * now on. When it does not, it has failed like a life that crashed: it is killed, and its group
 * restarts. 0 takes the promise back; the next life has promised nothing. 0, or -1 with hr_error().
 */
int hr_promise_progress(unsigned long period_ms);

/*
 * This life has made progress. Cheap, and may be called from any thread; children that the life has
 * forked may not. 0, or -1 in a program that is no actor.
 */
int hr_progress(void);

/* Why the last call of this thread that failed did so, in one line; valid until the next one fails. */
const char *hr_error(void);

#ifdef __cplusplus
}
#endif

#endif
