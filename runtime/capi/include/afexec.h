/*
 * afexec.h - how an actor is to be run, and who it is, as ChorusOS's <afexec.h> has it.
 *
 * The family afexec itself, which runs ordinary actors, is not there: use fork(2) and exec(3), or
 * posix_spawn(3). The family hrfexec, which runs restartable ones, is in <hr/hrCtrl.h>.
 */
#ifndef AFEXEC_H
#define AFEXEC_H

#include <chorus.h>

#ifdef __cplusplus
extern "C" {
#endif

/* acFlags. Actors are user actors: AFX_SUPERVISOR_SPACE is refused with ENOTSUP, the rest changes nothing. */
#define AFX_USER_SPACE 0x1
#define AFX_SUPERVISOR_SPACE 0x2
#define AFX_ANY_SPACE 0x4
#define AFX_TRUSTED 0x8

/* Credentials; ignored, as in ChorusOS 5.0. An actor has those of the one that runs it. */
typedef struct cx_cred cx_cred_t;

/* How an actor is to be run. All zero: as the caller runs. */
typedef struct {
    int acSite;        /* ignored: the caller's site */
    int acFlags;       /* AFX_ flags */
    char *acStdin;     /* the file to read as stdin, or null: the caller's stdin */
    char *acStdout;    /* the file that stdout is appended to, or null: the caller's stdout */
    char *acStderr;    /* the same for stderr */
    char *acCurdir;    /* the working directory, or null: the caller's */
    char *acRootdir;   /* must be null (ENOTSUP): actors share the root directory */
    cx_cred_t *acCred; /* ignored */
} AcParam;

/* The id of this life (SPEC H6), greater than 0. -1 with errno: EPERM, the program is no actor. */
int agetId(void);

/*
 * The capability of the life that has the id aid; 0 means the caller. 0, or -1 with errno:
 * EFAULT   cactorcap is null
 * ESRCH    no life has this aid, or none any more
 * EPERM    an actor of another group, or the caller is no restartable actor
 * EAGAIN   the site is being restarted: ask again
 */
int acap(int aid, KnCap *cactorcap);

#ifdef __cplusplus
}
#endif

#endif
