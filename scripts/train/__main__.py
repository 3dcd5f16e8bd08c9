"""The commands of this package: python -m scripts.train --help."""

from scripts.common.commands import dispatch
from scripts.common.errors import run_and_leave

COMMANDS = {
    "launch": "launch",
    "train": "train",
    "track": "track",
    "retrain": "retrain",
}

if __name__ == "__main__":
    dispatch("scripts.train", COMMANDS, run_and_leave)
