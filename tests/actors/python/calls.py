"""Every call of the module that asks the controller: `calls.py OUT`. The answers, a line each, into OUT; then it
kills its own group. Run as a restartable actor."""

import sys
import refrain

out = open(sys.argv[1], "w", buffering=1)


def refused(call, *words):
    try:
        return "not refused: %r" % (call(*words),)
    except refrain.Error as error:
        return "%s %s" % (error.code, "told" if str(error) else "untold")


me = refrain.attach()
assert all(hasattr(refrain, name) for name in refrain.__all__)
print("me", me.aid > 0, me.life, len(me.capability), file=out)
block = refrain.allocate("calls.py", 5000, b"key")
print("block", block.size, bytes(block.view[:4]), file=out)
block.view[:4] = b"kept"
again = refrain.allocate("calls.py", 5000, b"key")
print("again", bytes(again.view[:4]), again.address == block.address, file=out)
print("size", refused(refrain.allocate, "calls.py", 9000, b"key"), file=out)
print("key", refused(refrain.allocate, "other", 1, b"x" * 33), file=out)
print("name", refused(refrain.allocate, "x" * 64, 1), file=out)
del block, again
refrain.free_all(b"key")
print("free", refused(refrain.free, "calls.py"), file=out)
print("free_all", refused(refrain.free_all, b"key"), file=out)
refrain.allocate("calls.py", 1)
refrain.free("calls.py")
child = refrain.spawn("nap", "sleep", "1000")
print("spawn", refrain.group_of(child), refused(refrain.spawn, "nap", "sleep", "1000"), file=out)
print("group_of", refused(refrain.group_of, 1 << 30), file=out)
print("shutdown", refused(refrain.shutdown, 9), file=out)
print("kill_group", refused(refrain.kill_group, 77), file=out)
refrain.promise_progress(60)
refrain.progress()
refrain.kill_group(refrain.group_of(me.aid))
