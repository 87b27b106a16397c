"""What the containers may do: no more than they must."""

import json
import socket

from deployment import PORT, Deployment


def confined(taskq: Deployment) -> str:
    """Each container by what the kernel says of its processes and mounts, and the ports by trying."""
    coordinator, workers = taskq.coordinator(), taskq.engine.containers("worker")
    for container in (coordinator, *workers):
        processes(taskq, container)
        mounts(taskq, container)
        secret(taskq, container)
    ports(taskq, coordinator, workers)
    return f"{1 + len(workers)} of them"


def processes(taskq: Deployment, container: str) -> None:
    """All are user 65532, without capabilities, and cannot get more."""
    told = taskq.engine.podman("exec", container, "sh", "-c", "cat /proc/[0-9]*/status")
    facts = {(name, value.strip()) for name, _, value in (line.partition(":") for line in told.splitlines())}
    expected = {
        "Uid": "\t".join(["65532"] * 4),
        "Gid": "\t".join(["65532"] * 4),
        "CapPrm": "0" * 16,
        "CapEff": "0" * 16,
        "CapBnd": "0" * 16,
        "NoNewPrivs": "1",
    }
    for name, value in expected.items():
        found = {given for key, given in facts if key == name}
        assert found == {value}, f"{name} in {container}: {found}"


def mounts(taskq: Deployment, container: str) -> None:
    """The root is read-only; where else its user can write is known."""
    mounted = [line.split()[:4] for line in taskq.engine.podman("exec", container, "cat", "/proc/mounts").splitlines()]
    (root,) = [options.split(",") for _, place, _, options in mounted if place == "/"]
    assert "ro" in root, f"the root of {container} is not read-only: {root}"
    script = 'for place do [ ! -d "$place" ] || [ ! -w "$place" ] || echo "$place"; done'
    places = [place for _, place, _, _ in mounted]
    writable = set(taskq.engine.podman("exec", container, "sh", "-c", script, "sh", *places).split())
    volume = "/var/lib/taskq" if container == taskq.coordinator() else "/work"
    # The engine gives each container memory to share, and /var/tmp where the root is read-only.
    known = {volume, "/tmp", "/dev/shm", "/dev/mqueue", "/var/tmp"}
    assert volume in writable and writable <= known, f"{container} can write to {writable}"


def secret(taskq: Deployment, container: str) -> None:
    """It is in a file, and neither in what the engine keeps of a container nor in its log."""
    token = taskq.engine.podman("exec", container, "cat", "/run/secrets/token").strip()
    assert token.startswith("tq_")
    assert token not in json.dumps(taskq.engine.inspect(container)), f"the token is in the settings of {container}"
    assert token not in taskq.log(container), f"the token is in the log of {container}"


def ports(taskq: Deployment, coordinator: str, workers: list[str]) -> None:
    """One port is published, on loopback; at the machine's other addresses nobody answers."""
    published = {name: taskq.engine.inspect(name)["HostConfig"]["PortBindings"] for name in (coordinator, *workers)}
    only = {"7733/tcp": [{"HostIp": "127.0.0.1", "HostPort": PORT}]}
    assert published.pop(coordinator) == only, "the coordinator's port"
    assert not any(bound for each in published.values() for bound in each.values()), f"published, too: {published}"
    (network,) = taskq.engine.inspect(coordinator)["NetworkSettings"]["Networks"].values()
    assert reachable("127.0.0.1"), "the published port"
    assert not reachable(network["Gateway"]), f"the port is open at {network['Gateway']} as well"


def reachable(address: str) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((address, int(PORT)), timeout=2).close()
    except OSError:
        return False
    return True
