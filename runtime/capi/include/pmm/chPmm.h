/*
 * pmm/chPmm.h - persistent memory: the calls of the Persistent Memory Manager (SPEC H15 to H20).
 *
 * Names, types and error codes are those of ChorusOS (pmmAllocate(2RESTART) and its neighbours). Every
 * actor may call these functions, restartable or not, from any thread. Link with `pkg-config --libs refrain`.
 * hr_error() in <hr/hr.h> says in words why a call failed.
 */
#ifndef PMM_CHPMM_H
#define PMM_CHPMM_H

#include <chorus.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where a block is kept: "RAM" is the only medium. (A site whose bank lies on a disk calls it so, too.) */
typedef char PmmMedium[16];

/* What a block is called: at most 63 bytes of UTF-8 and a NUL; no slash, space or control character. */
typedef char PmmMemName[64];

/* PmmName n = { "RAM", "myname" }; */
typedef struct {
    PmmMedium medium;
    PmmMemName name;
} PmmName;

/*
 * A deletion key: sizeof(PmmDelKey) bytes at most, of the caller's choosing. Zeros at its end do not
 * count: "key" with its NUL and without are one key. Keys that begin with __SYS are the system's.
 */
typedef char PmmDelKey[32];

/*
 * The key that ties a block to the caller's restart group: it is freed when the group terminates
 * (SPEC H18). Of restartable actors only.
 */
#define HR_GROUP_KEY "__SYS_HR_GROUP_KEY"
#define HR_GROUP_KEYSIZE (sizeof(HR_GROUP_KEY))
#define HR_GROUP_KEY_SIZE HR_GROUP_KEYSIZE

/*
 * Maps the block called name as it was left, or allocates it, zeroed, where there is none, and stores its
 * address in *addr: the same in every life and every actor (SPEC H11, H15).
 *
 * memSize is in bytes and rounded up to whole pages. An array of characters or a string may stand for delKey; the
 * address of a structure, or of what is const, is cast to (char *) in C. A null delKey with delKeySize 0: the block
 * has no key, and is freed by name. The block of a name that is there keeps its key.
 *
 * K_OK, or with *addr unchanged:
 * K_EFAULT         addr or name is null, or delKey is and delKeySize is not 0
 * K_EINVAL         the medium is not "RAM"; the name is none; memSize is 0
 * K_ESIZE          delKeySize is larger than sizeof(PmmDelKey); or the block has another size (SPEC H15)
 * K_EPRIV          another group's block; a name or key that begins with __SYS; HR_GROUP_KEY, and the caller
 *                  is an ordinary actor; a child that the life forked
 * K_EFULL          no room in the bank: bytes, blocks or addresses (SPEC H20)
 * K_ENOMEM         the block could not be mapped, or too many files are open
 * K_EOVERLAP       this life has something else mapped where the block belongs
 * K_EBUSY          the site is being restarted: ask again
 * K_EFAIL          the bank could not be written, the block is damaged, or the site is gone
 * K_ENOTAVAILABLE  the program is no actor
 */
KnError pmmAllocate(VmAddr *addr, PmmName *name, size_t memSize, PmmDelKey delKey, size_t delKeySize);

/*
 * Frees the block called name, whatever its key, and unmaps it here. Whoever may use a block may free it
 * (SPEC H17).
 *
 * K_OK, or: K_EFAULT (name is null), K_EINVAL (medium or name), K_EUNKNOWN (no such block), K_EPRIV (another
 * group's block, a name that begins with __SYS), K_EBUSY, K_EFAIL, K_ENOTAVAILABLE.
 * K_EBUSY may also mean that the controller ended just then: ask again, and take K_EUNKNOWN for K_OK.
 */
KnError pmmFree(PmmName *name);

/*
 * Frees every block that was allocated with the key (SPEC H17).
 *
 * K_OK, or: K_EFAULT (delKey is null), K_EINVAL (a key of nothing but zeros), K_ESIZE (delKeySize is larger
 * than sizeof(PmmDelKey)), K_EUNKNOWN (no block has the key), K_EPRIV (HR_GROUP_KEY, or a key that begins
 * with __SYS), K_EBUSY, K_EFAIL, K_ENOTAVAILABLE.
 */
KnError pmmFreeAll(PmmDelKey delKey, size_t delKeySize);

#ifdef __cplusplus
}

/* C++ has no implicit way from a string or a structure to PmmDelKey: the same calls with a key of any type. */
template <typename T>
inline KnError pmmAllocate(VmAddr *addr, PmmName *name, size_t memSize, const T *delKey, size_t delKeySize)
{
    const void *bytes = delKey;

    return pmmAllocate(addr, name, memSize, static_cast<char *>(const_cast<void *>(bytes)), delKeySize);
}

template <typename T>
inline KnError pmmFreeAll(const T *delKey, size_t delKeySize)
{
    const void *bytes = delKey;

    return pmmFreeAll(static_cast<char *>(const_cast<void *>(bytes)), delKeySize);
}
#endif

#endif
