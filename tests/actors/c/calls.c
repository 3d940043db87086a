/* Every call of <hr/hr.h> once as it should be and once in each wrong way: `calls OUT PROGRAM`. A line each, the
 * answer by its name, into OUT. Run as a restartable actor, as an ordinary one, and by hand. PROGRAM is what it
 * spawns, a program that lives on. Links libhr; C99 and C++11. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <hr/hr.h>
#include <stdio.h>
#include <unistd.h>

static FILE *out;

static const char *code(KnError error)
{
    switch (error) {
#define NAME(code) case code: return #code
    NAME(K_OK);
    NAME(K_EPRIV);
    NAME(K_EUNKNOWN);
    NAME(K_EFAIL);
    NAME(K_ENOMEM);
    NAME(K_EFAULT);
    NAME(K_EBUSY);
    NAME(K_EOVERLAP);
    NAME(K_EINVAL);
    NAME(K_EFULL);
    NAME(K_ESIZE);
    NAME(K_ENOTAVAILABLE);
    }
    return "?";
}

static void pmm(const char *what, KnError error)
{
    /* A failure says why; a success leaves the text of the last one alone. */
    fprintf(out, "%s: %s%s\n", what, code(error), error != K_OK && !*hr_error() ? ", untold" : "");
}

static void hr(const char *what, int answer)
{
    const char *name = answer >= 0                ? "ok"
                       : errno == EFAULT          ? "EFAULT"
                       : errno == EINVAL          ? "EINVAL"
                       : errno == EPERM           ? "EPERM"
                       : errno == ESRCH           ? "ESRCH"
                       : errno == ENOENT          ? "ENOENT"
                       : errno == EACCES          ? "EACCES"
                       : errno == ENOEXEC         ? "ENOEXEC"
                       : errno == EEXIST          ? "EEXIST"
                       : errno == E2BIG           ? "E2BIG"
                       : errno == ENOTSUP         ? "ENOTSUP"
                                                  : strerror(errno);

    fprintf(out, "%s: %s%s\n", what, name, answer < 0 && !*hr_error() ? ", untold" : "");
    errno = 0;
}

static void blocks(void)
{
    PmmName name = {"RAM", "calls.one"}, two = {"RAM", "calls.two"}, three = {"RAM", "calls.three"};
    PmmName disk = {"DISK", "calls.one"}, empty = {"RAM", ""}, slash = {"RAM", "a/b"};
    PmmName system = {"RAM", "__SYS_image"}, huge = {"RAM", "calls.huge"}, endless = {"RAM", ""};
    struct { char owner[8]; int number; } structure = {"calls", 7};
    char key[] = "calls", longest[sizeof(PmmDelKey)] = "calls.longest", longer[sizeof(PmmDelKey) + 1] = "x";
    VmAddr addr = 1, again = 2;

    memset(endless.name, 'x', sizeof(endless.name));
    pmm("allocate", pmmAllocate(&addr, &name, 100, key, sizeof(key)));
    pmm("allocate again", pmmAllocate(&again, &name, 4096, key, sizeof(key)));
    fprintf(out, "same address: %s\n", addr == again ? "yes" : "no");
    pmm("allocate with a structure", pmmAllocate(&addr, &two, 1, (char *)&structure, sizeof(structure)));
    pmm("allocate with the group's key", pmmAllocate(&addr, &three, 1, HR_GROUP_KEY, HR_GROUP_KEYSIZE));
    again = addr;
    pmm("allocate another size", pmmAllocate(&addr, &name, 8192, key, sizeof(key)));
    pmm("allocate to nowhere", pmmAllocate(NULL, &name, 1, key, sizeof(key)));
    pmm("allocate no name", pmmAllocate(&addr, NULL, 1, key, sizeof(key)));
    pmm("allocate no key of 4 bytes", pmmAllocate(&addr, &name, 1, NULL, 4));
    pmm("allocate a long key", pmmAllocate(&addr, &name, 1, longer, sizeof(longer)));
    pmm("allocate a system key", pmmAllocate(&addr, &name, 1, "__SYS_KEY", 10));
    pmm("allocate a system name", pmmAllocate(&addr, &system, 1, key, sizeof(key)));
    pmm("allocate on disk", pmmAllocate(&addr, &disk, 1, key, sizeof(key)));
    pmm("allocate an empty name", pmmAllocate(&addr, &empty, 1, key, sizeof(key)));
    pmm("allocate a/b", pmmAllocate(&addr, &slash, 1, key, sizeof(key)));
    pmm("allocate a name without end", pmmAllocate(&addr, &endless, 1, key, sizeof(key)));
    pmm("allocate nothing", pmmAllocate(&addr, &empty, 0, key, sizeof(key)));
    pmm("allocate too much", pmmAllocate(&addr, &huge, (size_t)1 << 40, key, sizeof(key)));
    fprintf(out, "address kept: %s\n", addr == again ? "yes" : "no");

    pmm("free", pmmFree(&two));
    pmm("free again", pmmFree(&two));
    pmm("free no name", pmmFree(NULL));
    pmm("free on disk", pmmFree(&disk));
    pmm("free a system name", pmmFree(&system));
    /* Without its NUL it is the same key. */
    pmm("free all", pmmFreeAll(key, strlen(key)));
    pmm("free all again", pmmFreeAll(key, sizeof(key)));
    pmm("free all of the group", pmmFreeAll(HR_GROUP_KEY, HR_GROUP_KEY_SIZE));
    pmm("free all of no key", pmmFreeAll(NULL, 0));
    pmm("free all of zeros", pmmFreeAll("", 1));
    pmm("free all of a long key", pmmFreeAll(longer, sizeof(longer)));
    pmm("free all of a system key", pmmFreeAll("__SYS", 5));
    pmm("allocate the longest key", pmmAllocate(&addr, &two, 1, longest, sizeof(longest)));
    pmm("free all of the longest key", pmmFreeAll(longest, sizeof(longest)));
    pmm("allocate without a key", pmmAllocate(&addr, &two, 1, NULL, 0));
    pmm("free without a key", pmmFree(&two));
    pmm("free of the group", pmmFree(&three));
}

static void spawns(const char *program)
{
    PmmName alive = {"RAM", "calls.alive"}, other = {"RAM", "calls.other"}, disk = {"DISK", "x"};
    char *argv[] = {(char *)program, NULL}, *none[] = {NULL};
    char one[] = "ONE=1", bad[] = "no variable", root[] = "/", nowhere[] = "/no/such/file";
    char *envp[] = {one, NULL}, *wrong[] = {bad, NULL};
    char *big[3] = {(char *)program, (char *)malloc(3 << 20), NULL};
    AcParam supervisor, rooted, unread;
    KnCap cap, same, zero;
    int aid;

    memset(&zero, 0, sizeof(zero));
    memset(&cap, 0, sizeof(cap));
    memset(&supervisor, 0, sizeof(supervisor));
    rooted = unread = supervisor;
    supervisor.acFlags = AFX_SUPERVISOR_SPACE;
    rooted.acRootdir = root;
    unread.acStdin = nowhere;
    memset(big[1], 'x', (3 << 20) - 1);
    big[1][(3 << 20) - 1] = '\0';

    hr("spawn", aid = hrfexecl(&alive, program, &cap, NULL, program, "1", "2", "3", (char *)NULL));
    hr("its capability", acap(aid, &same));
    fprintf(out, "a capability: %s\n",
            memcmp(&cap, &same, sizeof(cap)) == 0 && memcmp(&cap, &zero, sizeof(cap)) != 0 ? "yes" : "no");
    hr("its group is ours", aid > 0 ? hrGetActorGroup(aid) - hrGetActorGroup(agetId()) : -1);
    hr("spawn what is alive", hrfexecv(&alive, program, NULL, NULL, argv));
    hr("spawn no name", hrfexecv(NULL, program, NULL, NULL, argv));
    hr("spawn no path", hrfexecv(&other, NULL, NULL, NULL, argv));
    hr("spawn no argv", hrfexecv(&other, program, NULL, NULL, NULL));
    hr("spawn no envp", hrfexecve(&other, program, NULL, NULL, argv, NULL));
    hr("spawn no argument", hrfexecve(&other, program, NULL, NULL, none, envp));
    hr("spawn no variable", hrfexec(&other, program, NULL, NULL, argv, wrong));
    hr("spawn on disk", hrfexecv(&disk, program, NULL, NULL, argv));
    hr("spawn nobody", hrfexecl(&other, "/no/such/program", NULL, NULL, "x", (char *)NULL));
    hr("spawn nobody along PATH", hrfexeclp(&other, "no-such-program", NULL, NULL, "x", (char *)NULL));
    hr("spawn a file", hrfexecl(&other, "/etc/passwd", NULL, NULL, "x", (char *)NULL));
    hr("spawn with too much", hrfexecv(&other, program, NULL, NULL, big));
    hr("spawn a supervisor", hrfexecv(&other, program, NULL, &supervisor, argv));
    hr("spawn in another root", hrfexecv(&other, program, NULL, &rooted, argv));
    hr("spawn without its stdin", hrfexecv(&other, program, NULL, &unread, argv));
    hr("spawn along PATH", hrfexeclp(&other, "sleep", NULL, NULL, "sleep", "1000", (char *)NULL));
    free(big[1]);
}

static void others(void)
{
    char i[] = "-i", four[] = "4", i9[] = "-i9", name[] = "shutdown";
    char *level_4[] = {i, four}, *joined[] = {i9}, *named[] = {name, i}, *none[] = {i, NULL};
    KnCap cap;

    pmm("self", actorSelf(&cap));
    pmm("self to nowhere", actorSelf(NULL));
    hr("own aid", agetId());
    hr("own capability", acap(0, &cap));
    hr("capability to nowhere", acap(0, NULL));
    hr("capability of nobody", acap(1 << 30, &cap));
    hr("group of nobody", hrGetActorGroup(1 << 30));
    hr("group of aid 0", hrGetActorGroup(0));
    hr("group of a negative aid", hrGetActorGroup(-5));
    hr("kill a negative group", hrKillGroup(-1));
    hr("kill another group", hrKillGroup(77));
    pmm("shutdown level 4", sysShutdown(2, level_4));
    pmm("shutdown -i9", sysShutdown(1, joined));
    pmm("shutdown -i", sysShutdown(2, named));
    pmm("shutdown nothing", sysShutdown(0, none));
    pmm("shutdown no words", sysShutdown(2, NULL));
    pmm("shutdown a null word", sysShutdown(2, none));
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    out = fopen(argv[1], "w");
    if (out == NULL)
        return 1;
    others();
    blocks();
    spawns(argv[2]);
    hr("exit handler", HR_EXIT_HDL());
    fputs("done\n", out);
    fclose(out);
    for (;;)
        pause();
}
