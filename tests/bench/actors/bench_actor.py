# The Python actor of the benchmark: see ../c/stamp.h for what a lane is. Under the name heavy.py it
# imports first what a service may need, under the name warm.py it takes its image after that.
import time; MAIN_NS = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
import os
import sys

if not sys.argv[0].endswith("actor.py"):
    import asyncio, ctypes, decimal, email.message, http.server, json, logging.config, sqlite3, ssl, unittest, xml.dom

    if sys.argv[0].endswith("warm.py"):
        import refrain

        refrain.image_here()
    MAIN_NS = time.clock_gettime_ns(time.CLOCK_MONOTONIC)

lane = sys.argv[1]
stamps = os.open(lane + "/stamps", os.O_RDWR)


def stamp(offset, value):
    os.pwrite(stamps, value.to_bytes(8, sys.byteorder), offset)


def word(offset):
    return int.from_bytes(os.pread(stamps, 8, offset), sys.byteorder)


stamp(64, MAIN_NS)
stamp(80, os.getpid())
began = word(0) + 1
stamp(0, began)
if began == word(8):
    with open(lane + "/began", "r+b", buffering=0) as fifo:
        fifo.write(b"b")
with open(lane + "/go", "r+b", buffering=0) as fifo:
    how = fifo.read(1)
if how == b"s":
    import ctypes

    stamp(72, time.clock_gettime_ns(time.CLOCK_MONOTONIC))
    ctypes.string_at(0)
stamp(72, time.clock_gettime_ns(time.CLOCK_MONOTONIC))
os._exit(1)
