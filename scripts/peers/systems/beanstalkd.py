"""beanstalkd with its log synced at every write. It has queues and no results: here a worker puts the value into a tube
of results before it deletes the job.

`python -m systems.beanstalkd PORT values|no-values` is a worker. Its protocol is plain text, spoken here directly: no
client library's speed is in the way."""

import selectors
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from daemon import Daemon, first_line, free_port, lacks
from measure import Measured, expect, lone, percentiles, throughput
from system import System

DURABLE = "submits and results: fsync before each reply"
NO_VALUES = "submits and ends: fsync before each reply; no results"
CALLS = 5_000
LONE = 500
CLIENTS = 64
SUBMITS = 20_000
IN_FLIGHT = 100


class Beanstalkd(System):
    name = "beanstalkd"
    groups = ("calls", "lone", "submit")
    settings = (
        "`beanstalkd -b DIR -f0`; a call is `put`, the worker's `reserve`, `put` of the value and `delete`, then the "
        f"client's `reserve` and `delete`; the client puts {IN_FLIGHT} ahead of their replies, two workers take one at "
        f"a time. Without values: `put`, `reserve`, `delete`. Single submits: {CLIENTS} connections that each wait for "
        "`INSERTED`"
    )

    def missing(self) -> str | None:
        return lacks("beanstalkd")

    def version(self) -> str:
        return first_line(["beanstalkd", "-v"])

    def start(self, folder: Path) -> None:
        self.server, self.workers, self.connection = None, [], None
        log = folder / "log"
        log.mkdir()
        self.port = free_port()
        argv = ["beanstalkd", "-l", "127.0.0.1", "-p", self.port, "-b", log, "-f0"]
        self.server = Daemon(argv, folder / "beanstalkd.out")
        self.server.until_listens(self.port)
        self.folder = folder
        self._workers("values")
        self.connection = Connection(self.port)
        self.connection.ask("watch values")
        self.connection.ask("ignore default")

    def warm(self) -> None:
        self._calls(200)

    def run(self) -> Iterator[Measured]:
        yield throughput("calls", "values by a tube", DURABLE, CALLS, lambda: self._calls(CALLS))
        self._workers("no-values")
        yield throughput("calls", "no values", NO_VALUES, CALLS, lambda: self._jobs(CALLS))
        self._workers("values")
        yield lone("lone", "", DURABLE, LONE, self._call)
        yield self._submits()

    def _workers(self, mode: str) -> None:
        """Two other workers: `values`, or `no-values`."""
        for worker in self.workers:
            worker.stop()
        self.workers = []
        for number in range(2):
            argv = [sys.executable, "-m", "systems.beanstalkd", self.port, mode]
            log = self.folder / f"worker-{mode}-{number}.log"
            self.workers.append(Daemon(argv, log, cwd=Path(__file__).parent.parent))
        for worker in self.workers:
            worker.until_says("ready")

    def _calls(self, calls: int) -> None:
        self._put_all(calls)
        values = [self._value() for _ in range(calls)]
        expect(sorted(values), list(range(calls)), "values")

    def _jobs(self, calls: int) -> None:
        """Until the workers have deleted them all."""
        deleted = lambda: int(self.connection.stats("default")["cmd-delete"])  # noqa: E731
        before = deleted()
        self._put_all(calls)
        while deleted() < before + calls:
            time.sleep(0.01)
        expect(self.connection.stats("default")["current-jobs-ready"], "0", "jobs left")

    def _put_all(self, calls: int) -> None:
        for first in range(0, calls, IN_FLIGHT):
            numbers = range(first, min(first + IN_FLIGHT, calls))
            self.connection.socket.sendall(b"".join(put(str(n).encode()) for n in numbers))
            for _ in numbers:
                expect(self.connection.line().split()[0], "INSERTED", "reply to put")

    def _call(self, n: int) -> int:
        self.connection.put(str(n).encode())
        return self._value()

    def _value(self) -> int:
        job, value = self.connection.reserve()
        self.connection.delete(job)
        return int(value)

    def _submits(self) -> Measured:
        """One thread, that waits on all connections at once."""
        connections = [Connection(self.port) for _ in range(CLIENTS)]
        for connection in connections:
            connection.ask("use submits")
        message = put(b"7")
        times: list[float] = []

        def work() -> None:
            started: dict[int, float] = {}
            with selectors.DefaultSelector() as selector:
                for connection in connections:
                    selector.register(connection.socket, selectors.EVENT_READ, connection)
                    started[connection.socket.fileno()] = time.perf_counter()
                    connection.socket.sendall(message)
                sent = CLIENTS
                while len(times) < SUBMITS:
                    for key, _ in selector.select(30):
                        expect(key.data.line().split()[0], "INSERTED", "reply to put")
                        now = time.perf_counter()
                        times.append((now - started[key.fd]) * 1e6)
                        if sent < SUBMITS:
                            started[key.fd] = now
                            key.data.socket.sendall(message)
                            sent += 1

        measured = throughput("submit", f"{CLIENTS} clients, put", DURABLE, SUBMITS, work)
        text = connections[0].stats("submits")
        expect(text["current-jobs-ready"], str(SUBMITS), "jobs in the tube")
        for connection in connections:
            connection.close()
        return Measured(
            "submit",
            measured.how,
            DURABLE,
            SUBMITS,
            measured.per_second,
            measured.cpu_us_per_task,
            percentiles(times),
        )

    def stop(self) -> None:
        if self.connection is not None:
            self.connection.close()
        for daemon in [*self.workers, self.server]:
            if daemon is not None:
                daemon.stop()


class Connection:
    """The few words of the protocol that are needed here."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.replies = self.socket.makefile("rb")

    def line(self) -> str:
        return self.replies.readline().decode().strip()

    def ask(self, words: str) -> str:
        self.socket.sendall(f"{words}\r\n".encode())
        return self.line()

    def put(self, body: bytes) -> None:
        self.socket.sendall(put(body))
        expect(self.line().split()[0], "INSERTED", "reply to put")

    def reserve(self) -> tuple[str, bytes]:
        words = self.ask("reserve").split()
        expect(words[0], "RESERVED", "reply to reserve")
        return words[1], self.replies.read(int(words[2]) + 2)[:-2]

    def delete(self, job: str) -> None:
        expect(self.ask(f"delete {job}"), "DELETED", "reply to delete")

    def stats(self, tube: str) -> dict[str, str]:
        words = self.ask(f"stats-tube {tube}").split()
        expect(words[0], "OK", "reply to stats-tube")
        lines = self.replies.read(int(words[1]) + 2).decode().splitlines()
        return dict(line.split(": ", 1) for line in lines if ": " in line)

    def close(self) -> None:
        self.replies.close()
        self.socket.close()


def put(body: bytes) -> bytes:
    return b"put 1024 0 60 %d\r\n%s\r\n" % (len(body), body)


def work(port: int, values: bool) -> None:
    """A worker, until it is killed."""
    connection = Connection(port)
    connection.socket.settimeout(None)
    connection.ask("use values")
    print("ready", flush=True)
    while True:
        job, argument = connection.reserve()
        value = same(int(argument))
        if values:
            connection.put(str(value).encode())
        connection.delete(job)


def same(value: int) -> int:
    return value


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2] == "values")
