"""BullMQ on Redis; both its sides are in `bullmq.cjs`."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from daemon import REDIS_SETTINGS, Daemon, end_with_parent, first_line, lacks, redis_server, redis_version
from measure import Measured, percentiles, tree_cpu_seconds
from system import System

SCRIPT = Path(__file__).with_name("bullmq.cjs")
DURABLE = "submits and results: fsync before each reply"
CALLS = 20_000
LONE = 500
#: The best of 1, 10, 50 and 200 on two cores (406, 1,837, 3,508 and 3,118 calls a second, on a busy machine).
CONCURRENCY = 50


class BullMQ(System):
    name = "BullMQ + Redis"
    groups = ("calls", "lone")
    settings = (
        f"{REDIS_SETTINGS}; two worker processes with `concurrency: {CONCURRENCY}`; `addBulk` of 1,000, values from "
        "the `completed` events; a lone call by `add` and `waitUntilFinished`"
    )

    def missing(self) -> str | None:
        modules = Path(os.environ.get("NODE_PATH", ""))
        if not (modules / "bullmq").is_dir():
            return "not installed: bullmq (npm)"
        return lacks("node", "redis-server")

    def version(self) -> str:
        package = Path(os.environ["NODE_PATH"]) / "bullmq" / "package.json"
        number = json.loads(package.read_text())["version"]
        return f"BullMQ {number}, Node {first_line(['node', '--version'])}, {redis_version()}"

    def start(self, folder: Path) -> None:
        self.server, self.workers, self.client = None, [], None
        self.server, port = redis_server(folder)
        for number in range(2):
            argv = ["node", SCRIPT, "worker", port, CONCURRENCY]
            self.workers.append(Daemon(argv, folder / f"worker-{number}.log"))
        for worker in self.workers:
            worker.until_says("ready")
        argv = [str(word) for word in ("node", SCRIPT, "client", port, CALLS, LONE)]
        self.log = (folder / "client.log").open("w+")
        pipe = subprocess.PIPE
        self.client = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=self.log, text=True, preexec_fn=end_with_parent
        )
        self._answer()

    def warm(self) -> None:
        self._ask("warm")

    def run(self) -> Iterator[Measured]:
        cpu = tree_cpu_seconds()
        seconds = self._ask("calls")["seconds"]
        cpu = tree_cpu_seconds() - cpu
        yield Measured("calls", "addBulk", DURABLE, CALLS, CALLS / seconds, cpu / CALLS * 1e6)
        cpu = tree_cpu_seconds()
        times = self._ask("lone")["us"]
        cpu = tree_cpu_seconds() - cpu
        yield Measured("lone", "", DURABLE, LONE, None, cpu / LONE * 1e6, percentiles(times))

    def _ask(self, what: str) -> dict:
        self.client.stdin.write(f"{what}\n")
        self.client.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self.client.stdout.readline()
        if not line:
            self.log.seek(0)
            raise RuntimeError(f"the client of BullMQ ended: {self.log.read()[-800:]}")
        return json.loads(line)

    def stop(self) -> None:
        if self.client is not None:
            self.client.kill()
            self.client.communicate()
            self.log.close()
        for daemon in [*self.workers, self.server]:
            if daemon is not None:
                daemon.stop()
