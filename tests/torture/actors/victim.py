"""The Python actor that is tortured: `victim.py DIR NAME SLOT FLAGS PORT`.

It writes into its slot of the record what `src/record.rs` says, and does what DIR/NAME.fifo tells it. With
the flag `w` it makes a warm image first.
"""
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import struct
import sys
import threading

BEGUN, LIFE, PID, PONG, TAKEN, WRONG, CODE, DETAIL = range(8)
IMAGES = 13
NOT_ALONE, LIFE_NUMBER = 1, 2
SLOT = 32 * 8
NO_LIFE = 2**64 - 1

directory, name, number, flags = sys.argv[1:5]
made = False
if "w" in flags:
    import refrain

    try:
        made = refrain.image_here() == refrain.MADE
    except refrain.Error:
        pass

with open(f"{directory}/record", "r+b") as file:
    record = mmap.mmap(file.fileno(), 0)
base = int(number) * SLOT


def get(word):
    return struct.unpack_from("<Q", record, base + 8 * word)[0]


def put(word, value):
    struct.pack_into("<Q", record, base + 8 * word, value)


def count(word):
    put(word, get(word) + 1)


def wrong(code, detail):
    put(CODE, code)
    put(DETAIL, detail)
    count(WRONG)


lock = open(f"{directory}/{name}.lock", "a")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    wrong(NOT_ALONE, os.getpid())
life = int(os.environ.get("REFRAIN_LIFE", NO_LIFE))
if get(LIFE) != NO_LIFE and life <= get(LIFE):
    wrong(LIFE_NUMBER, life)
put(LIFE, life)
put(PID, os.getpid())
if made:
    count(IMAGES)
fifo = os.open(f"{directory}/{name}.fifo", os.O_RDWR)
count(BEGUN)


def send(number):
    os.kill(os.getpid(), number)


def out_of_memory():
    resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))
    held = []
    while True:
        held.append(bytearray(8 << 20))


def in_a_thread():
    thread = threading.Thread(target=os._exit, args=(7,))
    thread.start()
    thread.join()


def panic():
    raise RuntimeError("as it was told")


ENDS = {
    "s": lambda: ctypes.string_at(0),
    "b": lambda: send(signal.SIGBUS),
    "f": lambda: send(signal.SIGFPE),
    "i": lambda: send(signal.SIGILL),
    "a": os.abort,
    "k": lambda: send(signal.SIGKILL),
    "m": out_of_memory,
    "P": panic,
    "x": lambda: sys.exit(0),
    "y": lambda: sys.exit(3),
    "t": in_a_thread,
}
while True:
    words = os.read(fifo, 16).split()
    if len(words) != 2:
        continue
    letter, told = words[0].decode(), int(words[1])
    if letter == "p":
        put(PONG, told)
    elif letter in ENDS:
        count(TAKEN)
        ENDS[letter]()
