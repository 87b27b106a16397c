"""Celery with Redis as its broker and for its results.

It is the module of the worker too: `celery -A systems.celery_redis worker`."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from daemon import REDIS_SETTINGS, Daemon, lacks, redis_server, redis_version
from measure import Measured, expect, lone, throughput
from system import System

PORT = "PEERS_REDIS_PORT"
DURABLE = "submits and results: fsync before each reply"
CALLS = 3_000
LONE = 200

try:
    import celery
except ImportError as cause:
    celery, absent = None, cause.name


def application(port: str):
    url = f"redis://127.0.0.1:{port}/"
    app = celery.Celery("peers", broker=f"{url}0", backend=f"{url}1")
    app.conf.update(
        task_acks_late=True,
        worker_prefetch_multiplier=64,  # its guide's range for short tasks: 50 to 150
        broker_connection_retry_on_startup=True,
    )
    return app, app.task(name="same")(same)


def same(value: int) -> int:
    return value


if celery is not None and PORT in os.environ:
    app, _ = application(os.environ[PORT])  # in the worker


class Celery(System):
    name = "Celery + Redis"
    groups = ("calls", "lone")
    settings = (
        f"{REDIS_SETTINGS}; `celery worker -c 2` (prefork), `task_acks_late` (a task is kept until it has run), "
        "`worker_prefetch_multiplier=64`, results in Redis; many calls as one `group`, its values by `join_native()`"
    )

    def missing(self) -> str | None:
        return f"not installed: {absent} (Python)" if celery is None else lacks("redis-server")

    def version(self) -> str:
        return f"Celery {celery.__version__}, {redis_version()}"

    def start(self, folder: Path) -> None:
        self.server, self.worker, self.app = None, None, None
        self.server, port = redis_server(folder)
        self.app, self.same = application(str(port))
        argv = [sys.executable, "-m", "celery", "-A", "systems.celery_redis", "worker", "-c", "2", "-l", "WARNING"]
        env = {PORT: str(port)}
        self.worker = Daemon(argv, folder / "celery.log", env=env, cwd=Path(__file__).parent.parent)

    def warm(self) -> None:
        # The first of these waits for the worker to be there.
        self._calls(100)

    def run(self) -> Iterator[Measured]:
        yield throughput("calls", "a group", DURABLE, CALLS, lambda: self._calls(CALLS))
        yield lone("lone", "", DURABLE, LONE, lambda n: self.same.delay(n).get(timeout=30, interval=0.001))

    def _calls(self, calls: int) -> None:
        result = celery.group(self.same.s(n) for n in range(calls)).apply_async()
        expect(result.join_native(timeout=100), list(range(calls)), "values")

    def stop(self) -> None:
        if self.app is not None:
            self.app.close()
        for daemon in (self.worker, self.server):
            if daemon is not None:
                daemon.stop()
