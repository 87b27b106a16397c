"""Builds the image from deploy/Dockerfile, as it is, by `build` of deploy/compose.yaml.

What users fetch is lent by the machine here, so that it takes CI a minute and not ten: the base images come from
archives (`bases`), /usr and the toolchain are mounted into the builder, and the crates that `make binaries` compiled
lie in its target folder already. Cargo decides by itself what of that is still good; ours are always compiled anew.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from engine import IMAGE, REPOSITORY, Engine, step

TARGET = REPOSITORY / "target" / "deploy"


def build(folder: Path) -> None:
    """Base images, then taskq's."""
    engine = Engine(folder, {})
    step("the stand-ins for the base images", lambda: bases(engine))
    step("crates that are compiled already", lend_crates)
    step("the image", lambda: image(engine))


def bases(engine: Engine) -> None:
    """rust:1-bookworm has cargo on its PATH; so has this."""
    sysroot = _sysroot()
    path = f"ENV PATH={sysroot}/bin:/usr/bin:/bin"
    engine.podman(
        "import", "--change", path, "--change", f"ENV CARGO_HOME={_cargo()}", f"{engine.folder}/builder.tar", "builder"
    )
    engine.podman("import", f"{engine.folder}/base.tar", "base")


def lend_crates() -> str:
    """Those of others only, and only if there is not a target folder of a former build."""
    release, lent = REPOSITORY / "target" / "release", TARGET / "release"
    if lent.exists():
        return "from the last build"
    lent.mkdir(parents=True)
    for name in ("deps", "build", ".fingerprint"):
        if (release / name).is_dir():
            skip = shutil.ignore_patterns("*taskq*")
            shutil.copytree(release / name, lent / name, symlinks=True, ignore=skip)
    return f"from {release}" if release.is_dir() else "none, all are compiled now"


def image(engine: Engine) -> str:
    """Cargo inside has the network of the machine, and its crates."""
    registry = _cargo() / "registry"
    registry.mkdir(parents=True, exist_ok=True)
    sysroot = _sysroot()
    volumes = ["/usr:/usr:ro", f"{sysroot}:{sysroot}:ro", f"{registry}:{registry}", f"{TARGET}:/src/target"]
    # Docker's format: the other one has no health checks.
    words = ["--format", "docker", "--network", "host", *(word for volume in volumes for word in ("--volume", volume))]
    engine.environment |= {
        "TASKQ_IMAGE": IMAGE,
        "RUST_IMAGE": "localhost/builder",
        "BASE_IMAGE": "localhost/base",
        "PROFILE": "release",
    }
    engine.compose(f"--podman-build-args={shlex.join(words)}", "build", "coordinator", patience_s=1_800)
    bases_bytes, image_bytes = (
        int(engine.podman("image", "inspect", "--format", "{{.Size}}", name)) for name in ("base", IMAGE)
    )
    return f"{image_bytes / 1e6:.0f} MB, of which {(image_bytes - bases_bytes) / 1e6:.0f} MB are not the base's"


def _sysroot() -> str:
    return subprocess.run(
        ["rustc", "--print", "sysroot"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()


def _cargo() -> Path:
    return Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
