"""Imports what takes long, makes that the image of later lives, says a line a life into argv[1].

Each time that the program was started, rather than begun from the image, there is a line in argv[2].
"""
import sys

with open(sys.argv[2], "a") as loads:
    loads.write("loaded\n")

import decimal, email, http.server, json, random, sqlite3, ssl  # noqa: E401
import os
import time

import refrain

sys.stdout.write("imported; ")
image = refrain.image_here()

with open(sys.argv[1], "a") as out:
    # Every import is there, and works.
    database = sqlite3.connect(":memory:")
    seven = database.execute("select 3 + 4").fetchone()[0]
    ssl.create_default_context()
    out.write(
        json.dumps(
            {
                "image": image,
                "life": refrain.life(),
                "environ": os.environ["REFRAIN_LIFE"],
                "pid": os.getpid(),
                "id": id(decimal),
                "seven": seven,
                "sum": str(decimal.Decimal("0.1") + decimal.Decimal("0.2")),
                "drawn": random.random(),
                "handler": http.server.BaseHTTPRequestHandler.server_version,
                "mail": email.message_from_string("A: b\n\n")["A"],
            }
        )
        + "\n"
    )
print("life", refrain.life(), flush=True)
while True:
    time.sleep(1000)
