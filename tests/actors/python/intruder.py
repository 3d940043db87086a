"""A life that speaks the protocol by hand, to get at what is another group's.

argv[1]: where it says what came of each attempt, a line each; argv[2]: the aid of a life of another group;
argv[3]: that group; argv[4]: a block of it.
"""
import array
import fcntl
import os
import socket
import struct
import sys
import time

REQUESTS = HELLO, ALLOCATE, FREE, FREE_ALL, GRANT, EXEC, GROUP_OF, KILL, SHUTDOWN = range(1, 10)
REPLIES = {100: "done", 101: "welcome", 102: "block", 103: "started", 104: "group", 105: "error", 106: "template"}
OUT, AID, GID, BLOCK = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
F_ADD_SEALS = 1033
life = socket.socket(fileno=int(os.environ["REFRAIN_FD"]))
life.settimeout(20)
seq = 1000


def say(line):
    with open(OUT, "a") as out:
        out.write(line + "\n")


def send(frame, fds):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    life.sendmsg([frame], rights)


def ask(what, kind, body=b"", fds=(), raw=None):
    """Says how a frame was answered; what is sent ahead is not looked at."""
    global seq
    seq += 1
    send(struct.pack("<II", kind, seq) + body if raw is None else raw, list(fds))
    while True:
        frame, got, _, _ = socket.recv_fds(life, 512, 8)
        answer, number = struct.unpack_from("<II", frame)
        if number in (seq, 0) and answer in REPLIES:
            break
    text = ""
    if answer == 105:
        code, length = struct.unpack_from("<II", frame, 8)
        text = f" {code} {frame[16:16 + length].decode()}"
    elif answer == 104:
        text = f" {struct.unpack_from('<I', frame, 8)[0]}"
    elif answer == 100:
        text = f" {struct.unpack_from('<I', frame, 8)[0]}"
    say(f"{what}: {REPLIES[answer]}{text}")
    return got


def name(text):
    return struct.pack("<I", len(text)) + text


def key(group, text=b""):
    return struct.pack("<I", group) + text.ljust(32, b"\0")


def refused(what, act):
    try:
        act()
        say(f"{what}: done")
    except OSError as error:
        say(f"{what}: error {error.strerror}")


def blob(text):
    fd = os.memfd_create("blob")
    os.write(fd, text)
    return fd


page = ask("hello", HELLO)[0]
# What is another group's, by its name.
for size in (1, 4096, 1 << 20, 1 << 63):
    ask(f"allocate {size}", ALLOCATE, name(BLOCK) + struct.pack("<Q", size) + key(1))
ask("free", FREE, name(BLOCK))
ask("grant", GRANT, name(BLOCK) + struct.pack("<I", 2))
ask("free by the key that it has", FREE_ALL, key(0, b"secret"))
ask("free by the key of groups", FREE_ALL, key(1))
# Names that are none.
for bad in (b"", b"../" + BLOCK, b"a/b", b"\x1b[2J", b"\xff\xfe", b"n" * 64):
    ask(f"allocate {bad!r}", ALLOCATE, name(bad) + struct.pack("<Q", 4096) + key(1))
ask("a name with a forged length", FREE, struct.pack("<I", 0xFFFFFFFF) + BLOCK)
# Gids, aids and levels that are none, or another's.
for gid in (GID, 0, 0xFFFFFFFE, 0xFFFFFFFF):
    ask(f"kill {gid}", KILL, struct.pack("<I", gid))
ask("group of another", GROUP_OF, struct.pack("<I", AID))
ask("group of nobody", GROUP_OF, struct.pack("<I", 0xFFFFFFFF))
ask("shutdown", SHUTDOWN, struct.pack("<I", 77))
# Frames that are none.
for kind in (0, 12, 100, 101, 105, 107, 0xFFFFFFFF):
    ask(f"kind {kind}", kind, b"\0" * 64)
for cut in (1, 3, 7):
    ask(f"a frame of {cut} bytes", 0, raw=b"\x02\0\0\0\0\0\0\0"[:cut])
ask("a frame that is too long", HELLO, b"x" * 4000)
null = os.open("/dev/null", os.O_RDWR)
ask("too many fds", HELLO, fds=[null] * 200)
# Programs: fds that are missing, of the wrong kind, and counts that lie.
good = b"\0/bin/true\0/\0true\0"
pipe, directory, zero = os.pipe()[0], os.open("/", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
for what, fds, head in (
    ("no fds", [], (len(good), 1, 0)),
    ("three fds", [null] * 3, (len(good), 1, 0)),
    ("a pipe", [null] * 3 + [pipe], (len(good), 1, 0)),
    ("a directory", [null] * 3 + [directory], (len(good), 1, 0)),
    ("a socket", [null] * 3 + [life.fileno()], (len(good), 1, 0)),
    ("zeros", [null] * 3 + [zero], (2 << 20, 1, 0)),
    ("more than there is", [null] * 3 + [blob(good)], (4096, 1, 0)),
    ("too much", [null] * 3 + [zero], (0xFFFFFFFF, 1, 0)),
    ("more arguments than there are", [null] * 3 + [blob(good)], (len(good), 0xFFFFFFFF, 0xFFFFFFFF)),
    ("no name", [null] * 3 + [blob(b"\0\0/\0\0")], (5, 1, 0)),
    ("a name of another group", [null] * 3 + [blob(b"owner" + good)], (5 + len(good), 1, 0)),
):
    ask(f"exec with {what}", EXEC, struct.pack("<III", *head), fds)
# What it holds itself: the image, the page.
for what, fd in (("page", page), ("image", os.open("/proc/self/exe", os.O_RDONLY))):
    refused(f"truncate the {what}", lambda: os.ftruncate(fd, 0))
    refused(f"grow the {what}", lambda: os.ftruncate(fd, 1 << 30))
    refused(f"seal the {what}", lambda: fcntl.fcntl(fd, F_ADD_SEALS, 8))
refused("write to the image", lambda: os.open("/proc/self/exe", os.O_RDWR))
ask("hello again", HELLO)
say("tried")
while True:
    time.sleep(1000)
