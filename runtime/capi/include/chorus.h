/*
 * chorus.h - the types and error codes that the headers of Refrain share with ChorusOS.
 *
 * Only what hot restart needs of them; there is no ChorusOS microkernel behind it.
 */
#ifndef CHORUS_H
#define CHORUS_H

/* The examples of the ChorusOS guides use these without including them. */
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a call of the PMM answers: K_OK, or one of the negative codes below. */
typedef int KnError;

/* An address, and a size in bytes. */
typedef uintptr_t VmAddr;
typedef size_t VmSize;

/* The capability of one life of an actor: 16 bytes, new in each life, never used twice (SPEC H6). */
typedef struct {
    unsigned int uiHead;
    unsigned int uiTail;
} KnUniqueId;

typedef struct {
    unsigned int keyHead;
    unsigned int keyTail;
} KnKey;

typedef struct {
    KnUniqueId ui;
    KnKey key;
} KnCap;

/*
 * Error codes have ChorusOS's names. Their values are Refrain's own: each is the negative of the errno
 * value that is closest to it.
 */
#define K_OK 0
#define K_EPRIV (-1)          /* this actor may not do that */
#define K_EUNKNOWN (-2)       /* no such block, no such key, no such life */
#define K_EFAIL (-5)          /* the bank could not be written, or the site does not answer */
#define K_ENOMEM (-12)        /* this life is out of memory or files */
#define K_EFAULT (-14)        /* a pointer that is null */
#define K_EBUSY (-16)         /* the site or the group is being restarted: ask again */
#define K_EOVERLAP (-17)      /* this life has something else where the block belongs */
#define K_EINVAL (-22)        /* an argument that is none of its kind */
#define K_EFULL (-28)         /* the bank is full: bytes, blocks or addresses */
#define K_ESIZE (-34)         /* a key that is too long, a block that has another size */
#define K_ENOTAVAILABLE (-38) /* the program was started by hand and is no actor */

/*
 * The capability of this life. K_OK; K_EFAULT where cap is null; K_ENOTAVAILABLE; K_EPRIV in a child
 * that the life forked.
 */
KnError actorSelf(KnCap *cap);

#ifdef __cplusplus
}
#endif

#endif
