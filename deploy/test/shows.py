"""What is shown of deploy/compose.yaml, in this order: each function is one claim, and fails if it does not hold."""

from pathlib import Path

import load
from confined import confined
from deployment import Deployment
from engine import step


def show(folder: Path) -> None:
    """From `docker compose run --rm token` to the second `up`."""
    taskq = Deployment(folder)
    try:
        step("a token, made once", lambda: token(taskq))
        step("3 workers start before there is a coordinator, whose name nobody knows yet", lambda: workers_first(taskq))
        step("the coordinator comes, and they find it", lambda: coordinator_later(taskq))
        step("it is healthy, and a place without a coordinator is not", lambda: healthy(taskq))
        step("no container is more than it must be", lambda: confined(taskq))
        jobs: list[int] = []
        step("500 tasks from a client container, 500 from the host", lambda: load.submit(taskq, jobs))
        step("scaled to 5 workers", lambda: load.grow(taskq, jobs))
        step("the coordinator is killed, and comes back", lambda: load.kill_coordinator(taskq, jobs))
        step("scaled down to 1 worker", lambda: load.shrink(taskq, jobs))
        step("all 1,000 have ended, none ran twice", lambda: load.ended(taskq, jobs))
        step("the coordinator moves to another address under a running task", lambda: load.move(taskq))
        step("everything down, after the worker has finished its task, and up again", lambda: down_and_up(taskq))
        step("all 1,000 are still there", lambda: load.ended(taskq, jobs))
        step("down with its volumes: nothing is left", lambda: nothing_left(taskq))
    except BaseException:
        taskq.tell()
        raise


def token(taskq: Deployment) -> None:
    """The documented line makes a file that user 65532 can read, and nobody else; a second time it changes nothing."""
    path = taskq.engine.deploy / "secrets" / "token"
    taskq.engine.compose("--profile", "token", "run", "--rm", "-T", "token")
    made = (path.read_text(), path.stat().st_uid, path.stat().st_mode & 0o777)
    assert made[0].startswith("tq_") and len(made[0]) == 68, "not a token"
    assert made[1:] == (65532, 0o400), f"owner {made[1]}, mode {made[2]:o}"
    taskq.engine.compose("--profile", "token", "run", "--rm", "-T", "token")
    assert path.read_text() == made[0], "another token took its place"


def workers_first(taskq: Deployment) -> None:
    """They try, say so, and stay."""
    taskq.engine.compose("up", "-d", "--no-deps", "--scale", "worker=3", "worker")
    workers = taskq.engine.containers("worker")
    assert len(workers) == 3, f"of 3 workers these run: {workers}"
    assert taskq.engine.containers("coordinator") == [], "the coordinator was started, too"
    for worker in workers:
        taskq.until(f"{worker} says that nobody is there", lambda worker=worker: "WARN" in taskq.log(worker))
    assert taskq.engine.containers("worker") == workers, "a worker has ended"


def coordinator_later(taskq: Deployment) -> None:
    """Nothing is restarted for that."""
    started = {worker: taskq.started(worker) for worker in taskq.engine.containers("worker")}
    taskq.up(workers=3)
    taskq.until("3 workers are there", lambda: len(taskq.workers()) == 3)
    assert {worker: taskq.started(worker) for worker in taskq.engine.containers("worker")} == started
    names = {taskq.engine.inspect(worker)["Config"]["Hostname"] for worker in started}
    assert {worker["name"] for worker in taskq.workers()} == names, "workers are named after their containers"


def healthy(taskq: Deployment) -> None:
    """podman leaves the intervals to systemd, which is not here: the test asks instead, with the image's own check."""
    coordinator = taskq.coordinator()
    taskq.engine.podman("healthcheck", "run", coordinator)
    status = taskq.engine.inspect(coordinator)["State"]["Health"]["Status"]
    assert status == "healthy", status
    nowhere = ["run", "--rm", "--network", "none", "--entrypoint", "taskq-server", taskq.image, "health"]
    assert taskq.fails(*nowhere) == 69, "a check that cannot fail"
    # The image's check is the coordinator's; compose.yaml turns it off for the others.
    for worker in taskq.engine.containers("worker"):
        check = taskq.engine.inspect(worker)["Config"].get("Healthcheck")
        assert check in (None, {"Test": ["NONE"]}), f"{worker} is checked as if it were a coordinator: {check}"


def down_and_up(taskq: Deployment) -> None:
    """The worker drains first; afterwards containers and network are new, and the volumes have stayed."""
    load.drain(taskq)
    before = taskq.taskq_on_host("ls", "--json")
    taskq.engine.compose("down")
    left = taskq.engine.podman("ps", "-a", "--format", "{{.Names}}")
    assert left == "", f"still there: {left}"
    taskq.up(workers=3)
    taskq.until("3 workers are there", lambda: len(taskq.workers()) == 3)
    assert taskq.taskq_on_host("ls", "--json") == before, "the history has changed"


def nothing_left(taskq: Deployment) -> None:
    """`down -v` is the end of a deployment."""
    taskq.stop_workers(taskq.engine.containers("worker"))
    taskq.engine.compose("down", "-v")
    for kind in ("ps -a --format {{.Names}}", "volume ls -q"):
        left = taskq.engine.podman(*kind.split())
        assert left == "", f"podman {kind}: {left}"
