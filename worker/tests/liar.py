"""A child that breaks docs/CHILD_PROTOCOL.md in the ways that its functions say; for tests.

`liar.py GATE`: while the file GATE exists, a new child starts and never says hello.
"""
import json
import os
import signal
import socket
import struct
import sys
import time

line = socket.socket(fileno=os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
reader = line.makefile("rb")
while os.path.exists(sys.argv[1]):
    time.sleep(0.01)


def say(header, body=b""):
    header = json.dumps(header).encode()
    line.sendall(struct.pack("<II", len(header), len(body)) + header + body)


def answer(call, value):
    say({"frame": "completed", "id": call}, json.dumps(value).encode())


FUNCTIONS = ["echo", "others", "garbage", "die", "deaf"]
say({"frame": "hello", "protocol": 1, "functions": FUNCTIONS, "language": "python"})
while True:
    prefix = reader.read(8)
    if len(prefix) < 8:
        sys.exit(0)
    header, body = struct.unpack("<II", prefix)
    header, body = json.loads(reader.read(header)), reader.read(body)
    if header["frame"] != "call":
        continue
    number = header["id"]
    match header["function"]:
        case "echo":
            answer(number, json.loads(body))
        case "others":
            answer(number, "mine")
            for other in range(number - 5, number + 6):
                answer(other, "a lie")
        case "garbage":
            line.sendall(b"Traceback (most recent call last)")
        case "die":
            os._exit(5)
        case "deaf":
            signal.pause()
