"""A bare Redis list: the least that a queue with a sync per acknowledgement can cost with Redis, and less than a queue
must do. A job is a number in a list, popped by whichever worker is first; its value is pushed to another list.

`python -m systems.redis_list PORT BATCH` is a worker."""

import sys
from collections.abc import Iterator
from pathlib import Path

from daemon import REDIS_SETTINGS, Daemon, lacks, redis_server, redis_version, run
from measure import Measured, expect, lone, throughput
from system import System

DURABLE = "submits and results: fsync before each reply; a job that was taken is lost with its worker"
JOBS, VALUES = "jobs", "values"
BATCH = 100
CALLS = 100_000
ONE_BY_ONE = 5_000
LONE = 500
CLIENTS = 64
SUBMITS = 100_000


class RedisList(System):
    name = "Redis list"
    groups = ("calls", "lone", "submit")
    settings = (
        f"{REDIS_SETTINGS}; redis-py with hiredis. Pipelined: the client sends `LPUSH` in pipelines of {BATCH}, two "
        f"workers take with `BLMPOP ... COUNT {BATCH}` and answer with one `LPUSH` of their values. One by one: "
        "`LPUSH`, `BRPOP` and `LPUSH`, each answered before the next. Single submits: "
        f"`redis-benchmark -c {CLIENTS} -n {SUBMITS} lpush`"
    )

    def missing(self) -> str | None:
        try:
            import redis  # noqa: F401
        except ImportError as cause:
            return f"not installed: {cause.name} (Python)"
        return lacks("redis-server", "redis-benchmark")

    def version(self) -> str:
        return redis_version()

    def start(self, folder: Path) -> None:
        self.server, self.workers, self.folder = None, [], folder
        self.server, self.port = redis_server(folder)
        import redis

        self.client = redis.Redis(port=self.port)
        self._workers(BATCH)

    def warm(self) -> None:
        self._calls(1_000, BATCH)

    def run(self) -> Iterator[Measured]:
        how = f"pipelined by {BATCH}"
        yield throughput("calls", how, DURABLE, CALLS, lambda: self._calls(CALLS, BATCH))
        self._workers(1)
        self._calls(100, 1)
        yield throughput("calls", "one by one", DURABLE, ONE_BY_ONE, lambda: self._calls(ONE_BY_ONE, 1))
        yield lone("lone", "", DURABLE, LONE, self._call)
        self._workers(0)
        yield self._submits()

    def stop(self) -> None:
        for daemon in [*self.workers, self.server]:
            if daemon is not None:
                daemon.stop()

    def _workers(self, batch: int) -> None:
        """Two other workers, that take so many jobs at once; 0: none."""
        for worker in self.workers:
            worker.stop()
        self.workers = []
        for number in range(2 if batch else 0):
            argv = [sys.executable, "-m", "systems.redis_list", self.port, batch]
            log = self.folder / f"worker-{batch}-{number}.log"
            self.workers.append(Daemon(argv, log, cwd=Path(__file__).parent.parent))
        for worker in self.workers:
            worker.until_says("ready")

    def _calls(self, calls: int, batch: int) -> None:
        """Submits while it takes the values that are there, as long as there are any to come."""
        values: list[int] = []
        for first in range(0, calls, batch):
            pipeline = self.client.pipeline(transaction=False)
            for n in range(first, min(first + batch, calls)):
                pipeline.lpush(JOBS, n)
            pipeline.execute()
        while len(values) < calls:
            _, some = self.client.blmpop(30, 1, VALUES, direction="RIGHT", count=1_000)
            values += map(int, some)
        expect(sorted(values), list(range(calls)), "values")

    def _call(self, n: int) -> int:
        self.client.lpush(JOBS, n)
        return int(self.client.brpop(VALUES, timeout=30)[1])

    def _submits(self) -> Measured:
        self.client.delete(JOBS)
        argv = ["redis-benchmark", "-p", self.port, "-c", CLIENTS, "-n", SUBMITS, "--csv", "lpush", JOBS, "7"]
        said: list[str] = []

        def work() -> None:
            said.extend(run(argv).splitlines())

        measured = throughput("submit", f"{CLIENTS} clients, lpush", DURABLE, SUBMITS, work)
        expect(self.client.llen(JOBS), SUBMITS, "jobs in the list")
        names, row = (line.strip().strip('"').split('","') for line in said[-2:])
        ms = dict(zip(names, row, strict=True))
        us = {end: float(ms[f"{end}_latency_ms"]) * 1e3 for end in ("p50", "p99", "max")}
        # Its own figure: it leaves out the start of its process.
        return Measured("submit", measured.how, DURABLE, SUBMITS, float(ms["rps"]), measured.cpu_us_per_task, us)


def work(port: int, batch: int) -> None:
    """A worker, until it is killed."""
    import redis

    client = redis.Redis(port=port)
    client.ping()
    print("ready", flush=True)
    while True:
        if batch == 1:
            client.lpush(VALUES, same(int(client.brpop(JOBS)[1])))
        else:
            _, some = client.blmpop(0, 1, JOBS, direction="RIGHT", count=batch)
            client.lpush(VALUES, *[same(int(job)) for job in some])


def same(value: int) -> int:
    return value


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]))
