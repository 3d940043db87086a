#!/usr/bin/env python3
"""A counter in persistent memory that outlives two crashes. Run it with samples/python/sysadm.ini."""
import os, refrain

me = refrain.attach()
words = refrain.allocate("counter.py", 4096).view.cast("Q")  # zeroed, or as the last life left it
words[0] += 1
print(f"life {me.life}, aid {me.aid}: the counter is {words[0]}", flush=True)
if words[0] < 3:
    os.abort()  # an abnormal end: the next life begins
refrain.exit_clean()  # the group terminates, and its blocks are freed
