"""A deployment by compose.yaml, seen from outside: its containers, its log, and its coordinator by way of the port."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from engine import IMAGE, Engine, until

PORT = "7799"
SLOTS = "2"


class Deployment:
    """Of the image that was built before. The room has a network of its own, so that every port in it is free."""

    def __init__(self, folder: Path) -> None:
        self.image = IMAGE
        # As a user would set them in .env. Nobody has a `docker compose build` here any more.
        settings = {"TASKQ_IMAGE": IMAGE, "TASKQ_PORT": PORT, "TASKQ_SLOTS": SLOTS, "TASKQ_DRAIN": "2m"}
        self.engine = Engine(folder, {})
        (self.engine.deploy / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        # The host's `taskq` is the image's.
        mount = Path(self.engine.podman("image", "mount", IMAGE).strip())
        self.program = folder / "taskq-on-host"
        shutil.copy(mount / "usr" / "local" / "bin" / "taskq", self.program)
        self.engine.podman("image", "unmount", IMAGE)

    def coordinator(self) -> str:
        """The name of its container."""
        (name,) = self.engine.containers("coordinator")
        return name

    def up(self, workers: int) -> None:
        """Nothing is asked to start before something else: podman would tie such containers to each other."""
        self.engine.compose("up", "-d", "--no-deps", "--scale", f"worker={workers}")

    def stop_workers(self, workers: list[str]) -> None:
        """As docker compose does it for `--scale` and `down`, by depends_on: TERM, the grace of compose.yaml, and the
        coordinator later. podman-compose stops nobody for `--scale`, and all at once for `down`."""
        service = yaml.safe_load(self.engine.compose("config"))["services"]["worker"]
        assert "coordinator" in service.get("depends_on", []), (
            "the coordinator would be stopped together with its workers"
        )
        minutes = service["stop_grace_period"].removesuffix("m")
        with ThreadPoolExecutor(len(workers)) as all_at_once:
            stop = ["stop", "--time", str(int(minutes) * 60)]
            list(all_at_once.map(lambda worker: self.engine.podman(*stop, worker), workers))
        for worker in workers:
            code = self.engine.inspect(worker)["State"]["ExitCode"]
            assert code == 0, f"{worker} ended with {code} and not drained:\n{self.log(worker)}"
            self.engine.podman("rm", worker)

    def taskq_on_host(self, *words: str, check: bool = True) -> str:
        """`taskq` of a user of the machine, by the published port, with the token as the guide says."""
        environment = {
            "PATH": "/usr/bin:/bin",
            "TASKQ_ADDR": f"127.0.0.1:{PORT}",
            "TASKQ_TOKEN": (self.engine.deploy / "secrets" / "token").read_text(),
        }
        command = [str(self.program), *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"taskq {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def taskq_in_container(self, *words: str) -> str:
        """`docker compose run --rm cli ...`."""
        return self.engine.compose("--profile", "cli", "run", "--rm", "-T", "cli", *words)

    def all_workers(self) -> list[dict]:
        """Those that the coordinator knows; none while it is away."""
        told = self.taskq_on_host("worker", "ls", "--json", check=False)
        return json.loads(told)["workers"] if told else []

    def workers(self) -> list[dict]:
        """Those that are connected, and take tasks."""
        return [worker for worker in self.all_workers() if worker["status"] == "online"]

    def tasks(self, job: int) -> list[dict]:
        """All of a job."""
        return json.loads(self.taskq_on_host("tasks", "--all", "--json", str(job)))["tasks"]

    def counts(self, job: int) -> dict[str, int]:
        """How many of its tasks are in which state."""
        (found,) = [each for each in json.loads(self.taskq_on_host("ls", "--json"))["jobs"] if each["id"] == job]
        return found["counts"]

    def read(self, path: str) -> str:
        """A file of the volume that workers and `cli` share."""
        return self._on_volume("cat", path)

    def write(self, path: str, text: str) -> None:
        """Puts such a file in place as a whole."""
        script = 'printf %s "$1" >"$2.new" && mv "$2.new" "$2"'
        self._on_volume("sh", "-c", script, "sh", text, path)

    def log(self, container: str) -> str:
        """What it wrote to standard error."""
        done = subprocess.run(
            ["podman", "logs", container], env=self.engine.environment, capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr

    def started(self, container: str) -> str:
        """When it was started the last time."""
        return self.engine.inspect(container)["State"]["StartedAt"]

    def address(self, container: str) -> str:
        """On the deployment's network."""
        (network,) = self.engine.inspect(container)["NetworkSettings"]["Networks"].values()
        return network["IPAddress"]

    def fails(self, *words: str) -> int:
        """The exit code of a podman command that is expected to fail."""
        return subprocess.run(
            ["podman", *words], env=self.engine.environment, capture_output=True, check=False
        ).returncode

    def until(self, what: str, fact: Callable[[], object]) -> None:
        """Waits for it."""
        until(what, fact)

    def tell(self) -> None:
        """The end of each log, for whoever reads a failure."""
        for container in self.engine.podman("ps", "-a", "--format", "{{.Names}}").split():
            print(f"---- {container}", file=sys.stderr)
            print("\n".join(self.log(container).splitlines()[-25:]), file=sys.stderr)

    def _on_volume(self, *words: str) -> str:
        bare = ["run", "--rm", "--network", "none", "--volume", "taskq_work:/work", self.image]
        return self.engine.podman(*bare, *words)
