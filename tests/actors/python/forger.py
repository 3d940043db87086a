"""A life that lies about its image: it offers the pidfd of a process that is not its own.

argv[1]: where the controller's answer goes; argv[2]: the pid. Speaks the protocol by hand.
"""
import os
import socket
import struct
import sys
import time

IMAGE_HERE, TEMPLATE, READY = 11, 106, 2
life = socket.socket(fileno=int(os.environ["REFRAIN_FD"]))


def ask(seq):
    life.send(struct.pack("<II", IMAGE_HERE, seq))
    return socket.recv_fds(life, 512, 8)[:2]


frame, fds = ask(1)
assert struct.unpack("<II", frame) == (TEMPLATE, 1), frame
template = socket.socket(fileno=fds[0])
pidfd = os.pidfd_open(int(sys.argv[2]))
socket.send_fds(template, [struct.pack("<I", READY)], [pidfd])
frame, _ = ask(2)
with open(sys.argv[1], "a") as out:
    kind, _seq, _code, length = struct.unpack_from("<IIII", frame)
    out.write(f"{kind} {frame[16:16 + length].decode()}\n")
while True:
    time.sleep(1000)
