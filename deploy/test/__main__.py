"""`build FOLDER` makes the image, `show FOLDER` runs deploy/compose.yaml with it. Started by `run`, in rooms."""

import sys
from pathlib import Path

from build import build
from shows import show

PHASES = {"build": build, "show": show}

if __name__ == "__main__":
    phase, folder = sys.argv[1:]
    print(f"==== {phase}", flush=True)
    try:
        PHASES[phase](Path(folder))
    except AssertionError as failed:
        print(f"FAILED: {failed}", file=sys.stderr)
        sys.exit(1)
