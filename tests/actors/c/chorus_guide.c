/*
 * A program as somebody writes it who has read what the ChorusOS 4.0 guide says of hot restart, and nothing of ours:
 * a counter in persistent memory says which life this is; the first crashes, the second spawns a child and provokes a
 * site restart, the third spawns the child again, cleans up and ends. Child: the same program, in the block of which
 * the parent waits. `chorus_guide [child]`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
#include <am/afexec.h>
#include <pmm/chPmm.h>
#include <hr/hr.h>

#define PM_MEDIUM "RAM"
#define PM_NAME "GUIDE_PM"

typedef struct {
    int runs;
    long samples[4];
} Status;

static char delKey[] = "guide key";
static PmmName childBlock = { "RAM", "GUIDE_CHILD" };
static PmmName childName = { "RAM", "guide_child" };

static void fail(const char *what, int res)
{
    printf("%s failed, res = %d, errno = %d\n", what, res, errno);
    fflush(stdout);
    HR_EXIT_HDL();
    exit(1);
}

static volatile Status *childStatus(void)
{
    VmAddr addr;
    KnError res = pmmAllocate(&addr, &childBlock, sizeof(Status), delKey, sizeof(delKey));

    if (res != K_OK)
        fail("pmmAllocate of the child's block", res);
    return (volatile Status *)addr;
}

static int childMain(void)
{
    volatile Status *st = childStatus();

    st->runs++;
    HR_EXIT_HDL();
    exit(0);
}

static void spawnChild(char *program, int runs)
{
    KnCap childCap;
    AcParam param;
    int aid;

    memset(&param, 0, sizeof(param));
    param.acFlags = AFX_USER_SPACE;
    aid = hrfexecl(&childName, program, &childCap, &param, program, "child", NULL);
    if (aid == -1)
        fail("hrfexecl", aid);
    while (childStatus()->runs < runs)
        usleep(1000);
}

int main(int argc, char *argv[])
{
    PmmName name;
    int *counter = NULL;
    int res;

    if (argc > 1 && strcmp(argv[1], "child") == 0)
        return childMain();

    memset(&name, 0, sizeof(name));
    strcpy(name.medium, PM_MEDIUM);
    strcpy(name.name, PM_NAME);
    res = pmmAllocate((VmAddr *)&counter, &name, sizeof(int), HR_GROUP_KEY, HR_GROUP_KEYSIZE);
    if (res != K_OK)
        fail("pmmAllocate", res);
    (*counter)++;

    if (*counter == 1) {
        volatile long *volatile p = (long *)0;

        printf("Hello world!\n");
        fflush(stdout);
        *p = 1;
    } else if (*counter == 2) {
        char *args[] = { (char *)"shutdown", (char *)"-i", (char *)"1", NULL };
        int gid = hrGetActorGroup(agetId());

        printf("Hello again! I have been restarted, in group %d.\n", gid);
        fflush(stdout);
        spawnChild(argv[0], 1);
        res = sysShutdown(3, args);
        if (res != K_OK)
            fail("sysShutdown", res);
        for (;;)
            pause();
    }
    spawnChild(argv[0], 2);
    printf("The child ran %d times, the site was restarted.\n", childStatus()->runs);
    fflush(stdout);
    res = pmmFree(&name);
    if (res != K_OK)
        fail("pmmFree", res);
    res = pmmFreeAll(delKey, sizeof(delKey));
    if (res != K_OK)
        fail("pmmFreeAll", res);
    if (pmmFreeAll(HR_GROUP_KEY, HR_GROUP_KEY_SIZE) != K_EPRIV)
        fail("pmmFreeAll with HR_GROUP_KEY", 0);
    HR_EXIT_HDL();
    exit(0);
}
