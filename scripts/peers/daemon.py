"""A process of this run: started on ports and folders of its own, waited for until it is ready, and surely ended."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

READY_SECONDS = 30
END_SECONDS = 15
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True)


class Daemon:
    """A server or a worker. What it prints is in `log`."""

    def __init__(self, argv: list, log: Path, *, end=signal.SIGTERM, env=None, cwd=None, user=None):
        self.argv = [str(word) for word in argv]
        self.log = log
        self.end = end
        self.process = None
        owner = {"user": user, "group": user, "extra_groups": []} if user else {}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
                preexec_fn=end_with_parent,
                **owner,
            )

    def until_says(self, text: str, times: int = 1) -> None:
        """Waits for a text in its log."""
        self._until(lambda: self.log.read_text(errors="replace").count(text) >= times, f"say {text!r}")

    def until_listens(self, port: int) -> None:
        """Waits until a port accepts connections."""

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self._until(listens, f"listen on port {port}")

    def _until(self, fact, what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not fact():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.argv[0]} ended with {self.process.returncode}: {self._tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.argv[0]} did not {what} in {READY_SECONDS} s: {self._tail()}")
            time.sleep(0.01)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-800:]

    def stop(self) -> None:
        """Asks it to end, and ends it and its children after a while."""
        if self.process.poll() is None:
            self.process.send_signal(self.end)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def redis_server(folder: Path) -> tuple[Daemon, int]:
    """A Redis that syncs its append-only file before it answers; no snapshots besides."""
    port = free_port()
    argv = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", ""]
    argv += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
    daemon = Daemon(argv, folder / "redis.log")
    try:
        daemon.until_says("Ready to accept connections")
    except BaseException:
        daemon.stop()
        raise
    return daemon, port


def redis_version() -> str:
    return "Redis " + first_line(["redis-server", "--version"]).split("v=")[1].split()[0]


REDIS_SETTINGS = "`redis-server --appendonly yes --appendfsync always --save ''`"


def run(argv: list, *, seconds: float = 120, **more) -> str:
    """Runs a program to its end, and returns what it printed. One that fails is an error with its last words."""
    argv = [str(word) for word in argv]
    settings = {"stdout": subprocess.PIPE, "text": True, **more}
    done = subprocess.run(argv, stderr=subprocess.PIPE, timeout=seconds, check=False, **settings)
    words = done.stderr if settings["text"] else done.stderr.decode(errors="replace")
    if done.returncode != 0:
        said = next((line for line in words.splitlines() if "error" in line.lower()), words[-200:].strip())
        raise RuntimeError(f"{Path(argv[0]).name} ended with {done.returncode}: {said}")
    return done.stdout or words


def first_line(argv: list) -> str:
    return run(argv, seconds=30).splitlines()[0]


def lacks(*programs: str) -> str | None:
    """Says which of these programs are not there."""
    absent = [program for program in programs if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def adopt_orphans() -> None:
    """Children whose parent ends become ours, so that none escapes the sum of CPU time or the end of the run."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """A process of this run does not outlive it, however it ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def prctl(option: int, value: int) -> None:
    if LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")
