"""A queue in PostgreSQL, by `FOR UPDATE SKIP LOCKED`: a transaction takes jobs, runs them, and commits their values.

`python -m systems.postgres PORT BATCH` is a worker."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from daemon import Daemon, first_line, free_port, run
from measure import Measured, expect, lone, percentiles, throughput
from system import System

DURABLE = "submits and results: WAL fsync before each commit returns"
CALLS = 20_000
ONE_BY_ONE = 3_000
BATCH = 100
LONE = 300
CLIENTS = 16
SUBMITS_EACH = 1_000
USER = "postgres"

TABLES = """
CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, argument int NOT NULL);
CREATE TABLE results (job bigint PRIMARY KEY, value int NOT NULL);
CREATE TABLE submits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, argument int NOT NULL);
"""
TAKE = """
DELETE FROM jobs WHERE id = ANY(ARRAY(SELECT id FROM jobs ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING id, argument
"""
ANSWER = "INSERT INTO results SELECT * FROM unnest(%s::bigint[], %s::int[])"
SUBMIT = "WITH told AS (SELECT pg_notify('jobs', '')) INSERT INTO jobs (argument) SELECT unnest(%s::int[]) FROM told"


class Postgres(System):
    name = "PostgreSQL SKIP LOCKED"
    groups = ("calls", "lone", "submit")
    settings = (
        "as `initdb` makes it (`fsync`, `synchronous_commit` on); psycopg 3 over loopback, two workers; "
        "a transaction deletes jobs (`FOR UPDATE SKIP LOCKED`), runs them and inserts their values. Many calls: "
        f"submitted, run and committed one by one, or {BATCH} at a time; an idle worker is woken by `NOTIFY`, and so "
        f"is the lone client. Single submits: `pgbench -c {CLIENTS} -j 2 -M prepared`, one `INSERT` a transaction"
    )

    def missing(self) -> str | None:
        try:
            import psycopg  # noqa: F401
        except ImportError as cause:
            return f"not installed: {cause.name} (Python)"
        return None if programs() else "not installed: postgresql"

    def version(self) -> str:
        return "PostgreSQL " + first_line([programs() / "postgres", "--version"]).split()[2]

    def start(self, folder: Path) -> None:
        self.server, self.workers, self.client, self.folder = None, [], None, folder
        # It refuses to run as root.
        user = USER if os.getuid() == 0 else None
        owner = {"user": user, "group": user, "extra_groups": []} if user else {}
        data = folder / "data"
        data.mkdir(mode=0o700)
        if user:
            folder.chmod(0o755)
            folder.parent.chmod(0o755)
            shutil.chown(data, user, user)
        argv = [programs() / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C"]
        run(argv, cwd=data, **owner)
        self.port = free_port()
        argv = [programs() / "postgres", "-D", data, "-h", "127.0.0.1", "-p", self.port, "-k", ""]
        # SIGINT: it ends its sessions, and then itself.
        self.server = Daemon(argv, folder / "postgres.log", user=user, cwd=data, end=signal.SIGINT)
        self.server.until_says("ready to accept connections")
        self.client = connect(self.port)
        self.client.execute(TABLES)
        expect([self._shows("fsync"), self._shows("synchronous_commit")], ["on", "on"], "fsync and commits")
        self._workers(BATCH)

    def _shows(self, setting: str) -> str:
        return self.client.execute(f"SHOW {setting}").fetchone()[0]

    def warm(self) -> None:
        self._calls(1_000, BATCH)

    def run(self) -> Iterator[Measured]:
        how = f"{BATCH} a transaction"
        yield throughput("calls", how, DURABLE, CALLS, lambda: self._calls(CALLS, BATCH))
        self._workers(1)
        self._calls(200, 1)
        yield throughput("calls", "one a transaction", DURABLE, ONE_BY_ONE, lambda: self._calls(ONE_BY_ONE, 1))
        self._workers(1, "telling")
        self.client.execute("LISTEN results")
        yield lone("lone", "LISTEN/NOTIFY", DURABLE, LONE, self._call)
        self._workers(0)
        yield self._submits()

    def stop(self) -> None:
        if self.client is not None:
            self.client.close()
        for daemon in [*self.workers, self.server]:
            if daemon is not None:
                daemon.stop()

    def _workers(self, batch: int, *telling: str) -> None:
        """Two other workers, that take so many jobs at once; 0: none. Telling: each commit says its value."""
        for worker in self.workers:
            worker.stop()
        self.workers = []
        for number in range(2 if batch else 0):
            argv = [sys.executable, "-m", "systems.postgres", self.port, batch, *telling]
            log = self.folder / f"worker-{batch}{''.join(telling)}-{number}.log"
            self.workers.append(Daemon(argv, log, cwd=Path(__file__).parent.parent))
        for worker in self.workers:
            worker.until_says("ready")

    def _calls(self, calls: int, batch: int) -> None:
        client = self.client
        client.execute("TRUNCATE results")
        for first in range(0, calls, batch):
            client.execute(SUBMIT, [list(range(first, min(first + batch, calls)))], prepare=True)
        count = lambda: client.execute("SELECT count(*) FROM results").fetchone()[0]  # noqa: E731
        while count() < calls:
            time.sleep(0.01)
        values = [value for (value,) in client.execute("SELECT value FROM results ORDER BY value")]
        expect(values, list(range(calls)), "values")

    def _call(self, n: int) -> int:
        """In one round trip each: the submit with its notice, and the value by the notice of its commit."""
        self.client.execute(SUBMIT, [[n]], prepare=True)
        for notice in self.client.notifies(timeout=30, stop_after=1):
            return int(notice.payload)
        raise RuntimeError("no notice of a result in 30 s")

    def _submits(self) -> Measured:
        script = self.folder / "insert.sql"
        script.write_text("INSERT INTO submits (argument) VALUES (7);\n")
        argv = [programs() / "pgbench", "-h", "127.0.0.1", "-p", self.port, "-U", USER, "-n", "-M", "prepared"]
        argv += ["-c", CLIENTS, "-j", 2, "-t", SUBMITS_EACH, "-f", script, "-l", "postgres"]
        said: list[str] = []

        def work() -> None:
            said.extend(run(argv, cwd=self.folder).splitlines())

        submits = CLIENTS * SUBMITS_EACH
        measured = throughput("submit", f"{CLIENTS} clients, INSERT", DURABLE, submits, work)
        expect(self.client.execute("SELECT count(*) FROM submits").fetchone()[0], submits, "rows inserted")
        logs = self.folder.glob("pgbench_log.*")
        times = [float(line.split()[2]) for log in logs for line in log.read_text().splitlines()]
        expect(len(times), submits, "transactions in the log of pgbench")
        # Its own figure: it leaves out the start of its process and of its connections.
        (rate,) = (float(line.split()[2]) for line in said if line.startswith("tps ="))
        return Measured("submit", measured.how, DURABLE, submits, rate, measured.cpu_us_per_task, percentiles(times))


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "pgbench").exists()]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def connect(port: int):
    import psycopg

    return psycopg.connect(host="127.0.0.1", port=port, user=USER, dbname="postgres", autocommit=True)


def work(port: int, batch: int, telling: bool) -> None:
    """A worker, until it is killed."""
    client = connect(port)
    client.execute("LISTEN jobs")
    print("ready", flush=True)
    while True:
        with client.transaction():
            taken = client.execute(TAKE, [batch], prepare=True).fetchall()
            if taken:
                jobs, arguments = zip(*taken, strict=True)
                values = [same(argument) for argument in arguments]
                client.execute(ANSWER, [list(jobs), values], prepare=True)
                if telling:
                    client.execute("SELECT pg_notify('results', %s)", [str(values[0])], prepare=True)
        if not taken:
            # One is enough, and what else came meanwhile is about the same jobs.
            list(client.notifies(timeout=30, stop_after=1))
            list(client.notifies(timeout=0))


def same(value: int) -> int:
    return value


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), "telling" in sys.argv[3:])
