"""podman and podman-compose in the place of Docker: their configuration, all in one folder, and the commands."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "localhost/taskq:test"
# For each thing that is waited for. Loaded machines are slow; nothing here takes long by itself.
PATIENCE_S = 120

CONTAINERS_CONF = """
[containers]
# podman asks for more than the hard limits of this machine, and has no right to raise them.
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]

[engine]
# Debian's default is crun; without systemd nobody else makes cgroups or keeps events.
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"

[network]
# The default there is CNI, which has no names for containers without a further plugin.
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""

STORAGE_CONF = """
[storage]
driver = "{driver}"
graphroot = "{folder}/graph"
runroot = "{folder}/runroot"
"""


class Engine:
    """Containers whose every trace is in this folder, or in the room that this runs in."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        for name in ("tmp", "networks"):
            (folder / name).mkdir(exist_ok=True)
        (folder / "containers.conf").write_text(CONTAINERS_CONF.format(folder=folder))
        (folder / "storage.conf").write_text(STORAGE_CONF.format(folder=folder, driver=_driver(folder)))
        # What a user has after cloning the repository, without what whoever runs this has made of it.
        self.deploy = folder / "taskq" / "deploy"
        if not self.deploy.exists():
            mine = shutil.ignore_patterns("target", ".tools", ".git", ".env", "token")
            shutil.copytree(REPOSITORY, folder / "taskq", symlinks=True, ignore=mine)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TASKQ_")},
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "TMPDIR": str(folder / "tmp"),
            **environment,
        }

    def podman(self, *words: str, check: bool = True) -> str:
        """What the command prints."""
        return self._run("podman", *words, check=check)

    def compose(self, *words: str, check: bool = True, patience_s: float = 600) -> str:
        """`docker compose`, as far as podman-compose is it, where compose.yaml is."""
        return self._run("podman-compose", "--in-pod=false", *words, check=check, patience_s=patience_s)

    def inspect(self, container: str) -> dict:
        """All that is known of a container."""
        return json.loads(self.podman("container", "inspect", container))[0]

    def containers(self, service: str) -> list[str]:
        """The names of a service's running containers."""
        names = self.podman("ps", "--filter", f"label=com.docker.compose.service={service}", "--format", "{{.Names}}")
        return sorted(names.split())

    def _run(self, *words: str, check: bool, patience_s: float = 600) -> str:
        done = subprocess.run(
            words,
            cwd=self.deploy,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def until(what: str, fact: Callable[[], object]) -> None:
    """Waits for a fact, and fails if it does not come true."""
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE_S} s in vain: {what}")
        time.sleep(0.1)


def step(name: str, deed: Callable[[], str | None]) -> None:
    """Does one thing, and says what it was and how long it took."""
    start = time.monotonic()
    said = deed()
    print(f"  {time.monotonic() - start:6.1f} s  {name}{f': {said}' if said else ''}", flush=True)


def _driver(folder: Path) -> str:
    """overlay where the folder's file system can be below one, otherwise vfs, which copies each layer as a whole."""
    if os.environ.get("STORAGE_DRIVER"):
        return os.environ["STORAGE_DRIVER"]
    probe = folder / "tmp" / "overlay"
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(probe / "merged")]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    if mounted:
        subprocess.run(["umount", str(probe / "merged")], check=True)
    shutil.rmtree(probe)
    if not mounted:
        print("no overlay here: images are stored with vfs", file=sys.stderr)
    return "overlay" if mounted else "vfs"
