"""Work for the deployment, and what is done to it meanwhile: scaling, a kill, a move, a stop."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from deployment import Deployment

HALF = 500
# A task leaves its number on the shared volume and in its output, and takes its time: as long as /work/pace says.
TASK = 'echo $TASKQ_JOB.$TASKQ_TASK | tee -a /work/ran; sleep "$(cat /work/pace)"'
# Slow enough that nothing ends while there is something to be done to the deployment, and then fast.
SLOW, FAST = "0.5", "0.01"


def submit(taskq: Deployment, jobs: list[int]) -> None:
    """Half of them from a container, half from the host, which has no directory that the workers know but /."""
    pace(taskq, SLOW)
    array = ["--array", f"1-{HALF}", "--", "sh", "-c", TASK]
    jobs.append(int(taskq.taskq_in_container("submit", "--output", "id", *array)))
    jobs.append(int(taskq.taskq_on_host("submit", "--output", "id", "--cwd", "/work", *array)))
    taskq.until("tasks end", lambda: ended_of(taskq, jobs[0]) > 0)


def grow(taskq: Deployment, jobs: list[int]) -> str:
    """Those that were there stay."""
    before = taskq.engine.containers("worker")
    taskq.up(workers=5)
    taskq.until("5 workers are there", lambda: len(taskq.workers()) == 5)
    assert set(before) <= set(taskq.engine.containers("worker")), "workers were replaced"
    return under_way(taskq, jobs)


def kill_coordinator(taskq: Deployment, jobs: list[int]) -> str:
    """As if it had crashed: its process gets KILL, and it is started by its restart policy."""
    coordinator = taskq.coordinator()
    state = taskq.engine.inspect(coordinator)["State"]
    os.kill(state["Pid"], signal.SIGKILL)
    taskq.until("the coordinator is started again", lambda: taskq.started(coordinator) != state["StartedAt"])
    taskq.until("5 workers are back", lambda: len(taskq.workers()) == 5)
    return under_way(taskq, jobs)


def shrink(taskq: Deployment, jobs: list[int]) -> str:
    """Those that go finish what they run."""
    said = under_way(taskq, jobs)
    _, *surplus = taskq.engine.containers("worker")
    taskq.stop_workers(surplus)
    taskq.until("1 worker is left", lambda: len(taskq.workers()) == 1)
    return said


def ended(taskq: Deployment, jobs: list[int]) -> None:
    """By what the coordinator says, by what the tasks left on the volume, and by their output."""
    pace(taskq, FAST)
    for job in jobs:
        taskq.until(f"job {job} ends", lambda job=job: ended_of(taskq, job) == HALF)
        # A task that was given back before it began has another attempt, and has not run twice: /work/ran knows.
        states = {task["state"] for task in taskq.tasks(job)}
        assert states == {"succeeded"}, f"tasks of job {job} are {states}"
        expected = [f"{job}.{index}" for index in range(HALF)]
        output = taskq.taskq_on_host("result", str(job)).split()
        assert output == expected, f"the output of job {job} is not what its tasks wrote"
    ran = [line for line in taskq.read("/work/ran").split() if int(line.split(".")[0]) in jobs]
    expected = [f"{job}.{index}" for job in jobs for index in range(HALF)]
    assert len(ran) == len(expected), f"{len(ran)} runs of {len(expected)} tasks"
    assert set(ran) == set(expected), "some tasks ran twice, and others never"


def move(taskq: Deployment) -> str:
    """Another container, at another address, because the former one is taken; the worker looks the name up again."""
    job = gated(taskq, "moved")
    coordinator = taskq.coordinator()
    worker = taskq.engine.containers("worker")[0]
    former, started = taskq.address(coordinator), taskq.started(worker)
    taskq.engine.podman("stop", "--time", "15", coordinator)
    taskq.engine.podman("rm", coordinator)
    squatter = ["--name", "squatter", "--network", f"taskq_taskq:ip={former}", taskq.image, "tail", "-f", "/dev/null"]
    taskq.engine.podman("run", "--detach", "--init", *squatter)
    taskq.engine.compose("up", "-d", "--no-deps", "coordinator")
    now = taskq.address(taskq.coordinator())
    assert now != former, f"it is still {now}"
    taskq.until("the worker has found it", lambda: len(taskq.workers()) == 1)
    open_gate(taskq, "moved")
    finished_at_once(taskq, job)
    assert taskq.started(worker) == started, "the worker was restarted"
    taskq.engine.podman("rm", "--force", "--time", "0", "squatter")
    return f"{former} -> {now}"


def drain(taskq: Deployment) -> None:
    """The task ends only after the worker was told to stop, and its result is taken."""
    job = gated(taskq, "drained")
    (worker,) = taskq.engine.containers("worker")
    with ThreadPoolExecutor(1) as aside:
        stopping = aside.submit(taskq.stop_workers, [worker])
        taskq.until("it takes nothing new", lambda: [each["status"] for each in taskq.all_workers()] == ["draining"])
        assert not stopping.done(), "the worker did not wait for its task"
        open_gate(taskq, "drained")
        stopping.result()
    finished_at_once(taskq, job)


def gated(taskq: Deployment, gate: str) -> int:
    """Submits a task that waits for a file, and waits until it runs."""
    script = f"echo $TASKQ_JOB.$TASKQ_TASK >>/work/ran; until [ -e /work/{gate} ]; do sleep 0.1; done; echo through"
    job = int(taskq.taskq_on_host("submit", "--output", "id", "--cwd", "/work", "--", "sh", "-c", script))
    taskq.until(f"job {job} has begun", lambda: f"{job}.0" in taskq.read("/work/ran").split())
    return job


def open_gate(taskq: Deployment, gate: str) -> None:
    """Lets the task go on."""
    taskq.write(f"/work/{gate}", "")


def finished_at_once(taskq: Deployment, job: int) -> None:
    """Its one task succeeded at its first attempt, and ran once."""
    taskq.until(f"job {job} ends", lambda: ended_of(taskq, job) == 1)
    (task,) = taskq.tasks(job)
    assert (task["state"], task["attempt"], task["earlier"]) == ("succeeded", 1, []), task
    assert taskq.taskq_on_host("result", str(job)) == "through\n"
    assert taskq.read("/work/ran").split().count(f"{job}.0") == 1, "it ran twice"


def pace(taskq: Deployment, seconds: str) -> None:
    """For tasks that begin from now on."""
    taskq.write("/work/pace", seconds)


def ended_of(taskq: Deployment, job: int) -> int:
    """How many tasks have ended, however."""
    counts = taskq.counts(job)
    return sum(counts[state] for state in ("succeeded", "failed", "cancelled", "skipped"))


def under_way(taskq: Deployment, jobs: list[int]) -> str:
    """What is shown of a load that has passed is not shown."""
    done = sum(ended_of(taskq, job) for job in jobs)
    assert done < HALF * len(jobs), "all tasks have ended already"
    return f"{done} had ended by then"
