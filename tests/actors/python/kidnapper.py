"""A template that passes off somebody else's process as the standby it was asked for.

argv[1]: where it says what it did; argv[2]: the pid. It becomes the template as a warm image does, then
answers the request for a fork with that pid and its pidfd. Speaks the protocol by hand.
"""
import os
import socket
import struct
import sys
import time

IMAGE_HERE, TEMPLATE = 11, 106
READY, FORKED = 2, 4
OUT, VICTIM = sys.argv[1], int(sys.argv[2])
life = socket.socket(fileno=int(os.environ["REFRAIN_FD"]))
if os.environ["REFRAIN_LIFE"] != "0":
    while True:
        time.sleep(1000)


def say(line):
    with open(OUT, "a") as out:
        out.write(line + "\n")


life.send(struct.pack("<II", IMAGE_HERE, 1))
frame, fds = socket.recv_fds(life, 512, 8)[:2]
assert struct.unpack("<II", frame) == (TEMPLATE, 1), frame
template = socket.socket(fileno=fds[0])
if os.fork() == 0:
    life.close()
    socket.send_fds(template, [struct.pack("<I", READY)], [os.pidfd_open(os.getpid())])
    stolen = os.pidfd_open(VICTIM)
    _, serial, _ = struct.unpack("<III", socket.recv_fds(template, 64, 8)[0])
    say(f"{os.getpid()}")
    socket.send_fds(template, [struct.pack("<III", FORKED, serial, VICTIM)], [stolen])
    while True:
        time.sleep(1000)
while True:
    time.sleep(1000)
