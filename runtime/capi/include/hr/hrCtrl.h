/*
 * hr/hrCtrl.h - the calls of the Hot Restart Controller (SPEC H2, H4, H12, H14, H21, H24, H26).
 *
 * Names and types are those of ChorusOS (section 2RESTART of its manual). For restartable actors only: an
 * ordinary actor, and a program that was started by hand, gets EPERM. hr_error() in <hr/hr.h> says in words why
 * a call failed.
 */
#ifndef HR_HRCTRL_H
#define HR_HRCTRL_H

#include <afexec.h>
#include <pmm/chPmm.h>
#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#define HR_ENDS_WITH_NULL __attribute__((sentinel))
#define HR_ENDS_WITH_NULL_AND_ONE __attribute__((sentinel(1)))
#else
#define HR_ENDS_WITH_NULL
#define HR_ENDS_WITH_NULL_AND_ONE
#endif

/*
 * The family hrfexec runs a program as an indirect actor of the caller's restart group.
 *
 * baseName   the medium, "RAM", and the name that the actor is registered by in the site. Where that name is
 *            registered in the group and not alive, the actor begins again from its image in memory, and path
 *            is not looked at (SPEC H4)
 * path       the program. hrfexeclp and hrfexecvp look for a path without a slash along $PATH
 * cactorcap  receives the capability of the new life, unless null; zeros, where that life has ended already
 * param      how the actor is to be run, see <afexec.h>; null: as the caller runs
 * arg0 ...   its arguments, the first by custom its name; a null pointer ends them
 * envp       its environment; without it, the caller's. A null pointer ends it. What begins with REFRAIN_ is
 *            of one life, and is not passed on
 *
 * The actor's stdin, stdout and stderr are the caller's, unless param says otherwise (SPEC H12).
 *
 * The id of the new life, greater than 0, or -1 with errno:
 * EFAULT     baseName, path, argv or envp is null
 * EINVAL     the medium is not "RAM"; the name is none; no argument; a variable without '='; text that is not
 *            UTF-8
 * EEXIST     an actor of that name is alive, or registered in another group
 * ENOENT     no such program; or what open(2) says of a file that param names
 * EACCES     a program that may not be executed
 * ENOEXEC    a program that cannot be loaded
 * E2BIG      arguments and environment are more than 2 MiB
 * ENOMEM     hr_ctrl.max_actors are registered already
 * EPERM      the caller is no restartable actor
 * ENOTSUP    AFX_SUPERVISOR_SPACE, or acRootdir
 * EAGAIN     the group or the site is being restarted, or the controller ended just then: ask again, and take
 *            EEXIST for success
 * EIO        the bank could not be written, or the site is gone
 */
int hrfexec(PmmName *baseName, const char *path, KnCap *cactorcap, const AcParam *param, char *const argv[],
            char *const envp[]);
int hrfexecve(PmmName *baseName, const char *path, KnCap *cactorcap, const AcParam *param, char *const argv[],
              char *const envp[]);
int hrfexecv(PmmName *baseName, const char *path, KnCap *cactorcap, const AcParam *param, char *const argv[]);
int hrfexecvp(PmmName *baseName, const char *path, KnCap *cactorcap, const AcParam *param, char *const argv[]);

/* For the three functions below: the arguments up to the null pointer; null with errno, without memory. */
static inline char **hr_gather_arguments(const char *arg0, va_list *rest)
{
    size_t count = 0, room = 16;
    char **argv = (char **)malloc(room * sizeof(char *));
    char *next = (char *)arg0;

    while (argv != NULL) {
        argv[count++] = next;
        if (next == NULL)
            break;
        if (count == room) {
            char **more = (char **)realloc(argv, 2 * room * sizeof(char *));
            if (more == NULL)
                free(argv);
            room *= 2;
            argv = more;
        }
        next = va_arg(*rest, char *);
    }
    return argv;
}

/* hrfexecl(&name, path, NULL, NULL, "arg0", "arg1", (char *)NULL) */
static inline int HR_ENDS_WITH_NULL hrfexecl(PmmName *baseName, const char *path, KnCap *cactorcap,
                                             const AcParam *param, const char *arg0, ...)
{
    int aid;
    char **argv;
    va_list rest;

    va_start(rest, arg0);
    argv = hr_gather_arguments(arg0, &rest);
    va_end(rest);
    aid = argv == NULL ? -1 : hrfexecv(baseName, path, cactorcap, param, argv);
    free(argv);
    return aid;
}

/* hrfexecle(&name, path, NULL, NULL, "arg0", "arg1", (char *)NULL, envp) */
static inline int HR_ENDS_WITH_NULL_AND_ONE hrfexecle(PmmName *baseName, const char *path, KnCap *cactorcap,
                                                      const AcParam *param, const char *arg0, ...)
{
    int aid = -1;
    char **argv;
    va_list rest;

    va_start(rest, arg0);
    argv = hr_gather_arguments(arg0, &rest);
    if (argv != NULL)
        aid = hrfexecve(baseName, path, cactorcap, param, argv, va_arg(rest, char **));
    va_end(rest);
    free(argv);
    return aid;
}

/* As hrfexecl, with path looked for along $PATH. */
static inline int HR_ENDS_WITH_NULL hrfexeclp(PmmName *baseName, const char *path, KnCap *cactorcap,
                                              const AcParam *param, const char *arg0, ...)
{
    int aid;
    char **argv;
    va_list rest;

    va_start(rest, arg0);
    argv = hr_gather_arguments(arg0, &rest);
    va_end(rest);
    aid = argv == NULL ? -1 : hrfexecvp(baseName, path, cactorcap, param, argv);
    free(argv);
    return aid;
}

/*
 * The restart group of the actor whose life has the id aid: 0 or greater (SPEC H14). -1 with errno:
 * ESRCH   no life has this aid, or none any more
 * EINVAL  it is the life of an ordinary actor, which has no group
 * EPERM   the caller is no restartable actor
 * EAGAIN  the site is being restarted: ask again
 * EIO     the site is gone
 */
int hrGetActorGroup(int aid);

/*
 * Kills every member of the group, which terminates as if all had ended cleanly (SPEC H24). It must be the
 * caller's own, so this call seldom returns. 0, or -1 with errno: EINVAL (negative), EPERM (another's group, or
 * the caller is no restartable actor), EAGAIN, EIO.
 */
int hrKillGroup(int groupId);

/*
 * Takes this life out of the controller's watch: its end, however it comes about, is a clean one (SPEC H21).
 * Call it shortly before exit(). 0, or -1 with errno EPERM in a program that is no actor.
 */
int HR_EXIT_HDL(void);

/*
 * Shuts the site down, as the console's `shutdown` with these words does (SPEC H26, C2): "-i" and a digit, or
 * "-i1" in one word; a first word that does not begin with '-' is the name of the command, as in main().
 *   -i 0  halt        -i 1  hot restart        -i 2  cold restart        -i 3  immediate stop
 *
 * 0, and the site is about to go down. A negative code, from this life: K_EFAULT (argv or a word of it is null),
 * K_EINVAL (none of the above), K_EPRIV (an ordinary actor), K_ENOTAVAILABLE (no actor). A positive one, from the
 * site: EAGAIN (it is going down already), EIO (it is gone).
 */
int sysShutdown(int argc, char *const argv[]);

#ifdef __cplusplus
}
#endif

#endif
