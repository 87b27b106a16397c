"""A child for taskq-worker in 50 lines: docs/CHILD_PROTOCOL.md is what it speaks.

    taskq-worker --child 'python3 worker/tests/child.py'
"""
import json
import os
import socket
import struct
import sys
import traceback

line = socket.socket(fileno=os.dup(0))  # dup makes it close-on-exec
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
reader = line.makefile("rb")


def say(header, body=b""):
    header = json.dumps(header).encode()
    line.sendall(struct.pack("<II", len(header), len(body)) + header + body)


def hear():
    prefix = reader.read(8)
    if len(prefix) < 8:
        sys.exit(0)  # the worker has hung up
    header, body = struct.unpack("<II", prefix)
    return json.loads(reader.read(header)), reader.read(body)


def greet(name):
    print(f"greeting {name}")
    return f"hello {name}"


def divide(pair):
    return pair[0] / pair[1]


def leave(code):
    os._exit(code)


functions = {"py.greet": greet, "py.divide": divide, "py.leave": leave}
say({"frame": "hello", "protocol": 1, "functions": list(functions), "language": "python"})
while True:
    header, body = hear()
    if header["frame"] == "bye":
        break
    if header["frame"] != "call":
        continue
    told = {"id": header["id"]}
    try:
        say({"frame": "progress", "fraction": 0.5, "note": "half way", **told})
        value = json.dumps(functions[header["function"]](json.loads(body))).encode()
        sys.stdout.flush()
        say({"frame": "completed", **told}, value)
    except Exception as error:
        sys.stdout.flush()
        at = traceback.extract_tb(error.__traceback__)[-1]
        said = {"type": type(error).__name__, "message": str(error), "place": f"{at.filename}:{at.lineno}"}
        say({"frame": "failed", "cause": "error", **said, **told})
