"""What an actor of a Refrain site may call, in Python.

Needs libhr.so: beside this file, or where the dynamic loader looks. Docs: docs/warm-images.md.

    import refrain
    import decimal, email, http.server, json, sqlite3, ssl   # what takes long

    refrain.image_here()            # later lives begin here
    print("life", refrain.life())
"""

import ctypes
import math
import os
import sys

__all__ = [
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


class Error(Exception):
    """What was asked for was not done; the text says why, and the cure."""


def _library():
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libhr.so")
    # PyDLL keeps the interpreter's lock: a fork must find it held by the one thread there is.
    library = ctypes.PyDLL(beside if os.path.exists(beside) else "libhr.so")
    library.hr_error.restype = ctypes.c_char_p
    library.hr_life.restype = ctypes.c_long
    library.hr_promise_progress.argtypes = [ctypes.c_ulong]
    return library


_hr = _library()
_fork = ctypes.pythonapi


def _failed():
    return Error(_hr.hr_error().decode())


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
