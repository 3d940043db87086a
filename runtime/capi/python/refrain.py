"""What an actor of a Refrain site may call, in Python.

Needs libhr.so: beside this file, where runtime/capi/install puts it, or where the dynamic loader looks.
Docs: docs/c-api.md, docs/warm-images.md.

    import refrain

    me = refrain.attach()
    block = refrain.allocate("visits", 8)       # as the last life left it, or zeroed
    block.view[0] += 1
    print("aid", me.aid, "life", me.life, "visit", block.view[0])
    refrain.exit_clean()                        # any other end: the next life begins
"""

import collections

import ctypes
import math
import os
import sys

__all__ = [
    "Actor",
    "Block",
    "GROUP_KEY",
    "attach",
    "allocate",
    "free",
    "free_all",
    "spawn",
    "group_of",
    "kill_group",
    "shutdown",
    "MADE",
    "BEGUN",
    "STANDS",
    "Error",
    "image_here",
    "life",
    "progress",
    "promise_progress",
    "exit_clean",
    "hr_exit_hdl",
]

MADE = 0
"""This life has made the image, and goes on."""
BEGUN = 1
"""This life began from the image: in image_here(), not at the start of the program."""
STANDS = 2
"""An earlier call in this life has made the image, or returned from it."""


GROUP_KEY = b"__SYS_HR_GROUP_KEY"
"""HR_GROUP_KEY: a block with this key is freed when the restart group terminates."""


class Error(Exception):
    """What was asked for was not done; the text says why, and the cure.

    code is the number that libhr answers: a K_ code of chorus.h for blocks, else an errno; None where
    there is none.
    """

    def __init__(self, text, code=None):
        super().__init__(text)
        self.code = code


class _Cap(ctypes.Structure):
    """KnCap of chorus.h."""

    _fields_ = [("words", ctypes.c_uint * 4)]


class _Name(ctypes.Structure):
    """PmmName of pmm/chPmm.h."""

    _fields_ = [("medium", ctypes.c_char * 16), ("name", ctypes.c_char * 64)]


def _path():
    here = os.path.dirname(os.path.abspath(__file__))
    places = [os.path.join(here, "libhr.so"), os.path.join(here, "..", "..", "libhr.so.0")]
    return next((place for place in places if os.path.exists(place)), "libhr.so.0")


def _libraries():
    # PyDLL keeps the interpreter's lock: a fork must find it held by the one thread there is. Whatever waits
    # for the controller lets other threads run meanwhile.
    held, free = ctypes.PyDLL(_path()), ctypes.CDLL(_path(), use_errno=True)
    held.hr_error.restype = ctypes.c_char_p
    held.hr_life.restype = ctypes.c_long
    held.hr_promise_progress.argtypes = [ctypes.c_ulong]
    words, name = ctypes.POINTER(ctypes.c_char_p), ctypes.POINTER(_Name)
    free.actorSelf.argtypes = [ctypes.POINTER(_Cap)]
    free.pmmAllocate.argtypes = [
        ctypes.POINTER(ctypes.c_size_t),
        name,
        ctypes.c_size_t,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    free.pmmFree.argtypes = [name]
    free.pmmFreeAll.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    free.hrfexecvp.argtypes = [name, ctypes.c_char_p, ctypes.POINTER(_Cap), ctypes.c_void_p, words]
    free.sysShutdown.argtypes = [ctypes.c_int, words]
    return held, free


_hr, _site = _libraries()
_fork = ctypes.pythonapi


def _failed(code=None):
    return Error(_hr.hr_error().decode(), code)


def _name(name):
    raw = name.encode()
    if len(raw) > 63:
        raise Error("a name has at most 63 bytes: %r" % name)
    return _Name(b"RAM", raw)


def _words(words):
    raw = [os.fsencode(word) for word in words]
    return (ctypes.c_char_p * (len(raw) + 1))(*raw, None)


def _done(answer):
    """Raises unless a call of the controller's answered 0 or more."""
    if answer < 0:
        raise _failed(ctypes.get_errno())
    return answer


Actor = collections.namedtuple("Actor", "aid life capability")
"""One life: its id, its number (0 for the first), its capability (32 hexadecimal digits)."""


def attach():
    """This life. Raises Error in a program that was started by hand."""
    cap = _Cap()
    code = _site.actorSelf(ctypes.byref(cap))
    if code != 0:
        raise _failed(code)
    return Actor(_done(_site.agetId()), life(), bytes(cap).hex())


class Block:
    """A block of persistent memory: name, address, size in bytes, and view, a memoryview of its bytes.

    view.cast("Q") is the block as 64-bit words. One store of one word is never seen half done; more than one
    word may be, when the life is killed in between. The view is of no use any more once the block is freed.
    """

    def __init__(self, name, address, size):
        self.name, self.address, self.size = name, address, size
        self.view = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")


def allocate(name, size, key=GROUP_KEY):
    """The block of this name as it was left, or a new one, zeroed. The size is rounded up to whole pages.

    A key of at most 32 bytes frees many blocks at once (free_all). GROUP_KEY is for restartable actors.
    """
    address = ctypes.c_size_t()
    code = _site.pmmAllocate(ctypes.byref(address), ctypes.byref(_name(name)), size, key, len(key))
    if code != 0:
        raise _failed(code)
    return Block(name, address.value, size)


def free(name):
    """Frees a block; whoever may use it may free it. Let go of its views first."""
    code = _site.pmmFree(ctypes.byref(_name(name)))
    if code != 0:
        raise _failed(code)


def free_all(key):
    """Frees every block that was allocated with this key."""
    code = _site.pmmFreeAll(key, len(key))
    if code != 0:
        raise _failed(code)


def spawn(name, path, *words):
    """Runs a program as an indirect actor of this one's group (hrfexec), with path and words as its
    arguments; returns its aid. A path without a slash is looked for along $PATH. Where the name is
    registered in the group and not alive, it begins again from its image in memory."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    argv = _words((path,) + words)
    return _done(_site.hrfexecvp(ctypes.byref(_name(name)), os.fsencode(path), None, None, argv))


def group_of(aid):
    """The restart group of the actor whose life has this id."""
    return _done(_site.hrGetActorGroup(aid))


def kill_group(gid):
    """Kills every member of this life's own group; seldom returns."""
    _done(_site.hrKillGroup(gid))


def shutdown(level):
    """As the console's "shutdown -i LEVEL": 0 halt, 1 hot restart, 2 cold restart, 3 immediate stop."""
    code = _site.sysShutdown(2, _words(("-i", str(level))))
    if code != 0:
        raise _failed(code)


def _refresh_environment():
    """os.environ is a copy that was made at the start of the program, in another life."""
    _hr.getenv.restype = ctypes.c_char_p
    for name in ("REFRAIN_LIFE", "REFRAIN_FD"):
        value = _hr.getenv(name.encode())
        if value is not None and name in os.environ:
            os.environ[name] = value.decode()


def image_here():
    """Makes the present state of this life the image from which later lives begin.

    Call it once, when everything is imported and loaded, and before the life opens files, starts
    threads or children, or maps blocks. Returns MADE in this life, BEGUN in each life that begins
    from the image, STANDS where there is one already. What os.register_at_fork() was given runs
    as for os.fork(), so the module random is seeded anew in every life.

    Raises Error when something is in the way; the program may go on without an image.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    _fork.PyOS_BeforeFork()
    done = -1
    try:
        done = _hr.hr_image_here()
    finally:
        if done == BEGUN:
            _fork.PyOS_AfterFork_Child()
        else:
            _fork.PyOS_AfterFork_Parent()
    if done == BEGUN:
        _refresh_environment()
    elif done < 0:
        raise _failed()
    return done


def life():
    """The number of this life: 0 for the first."""
    number = _hr.hr_life()
    if number < 0:
        raise _failed()
    return number


def promise_progress(seconds):
    """Promises to call progress() at least once in so many seconds; 0 takes the promise back.

    A life that does not keep it has failed like one that crashed. Each life promises for itself.
    """
    if _hr.hr_promise_progress(math.ceil(seconds * 1000)) < 0:
        raise _failed()


def progress():
    """This life has made progress."""
    if _hr.hr_progress() < 0:
        raise _failed()


def hr_exit_hdl():
    """Takes this life out of the controller's watch: its end, however it comes about, is clean."""
    if _hr.HR_EXIT_HDL() < 0:
        raise _failed()


def exit_clean(code=0):
    """Ends this life cleanly; in a program that is no actor, simply ends it."""
    try:
        hr_exit_hdl()
    except Error:
        pass  # Nobody watches.
    sys.exit(code)
