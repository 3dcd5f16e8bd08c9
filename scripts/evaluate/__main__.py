"""The commands of this package: python -m scripts.evaluate --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "evaluate": "evaluate",
    "tasks": "tasks",
    "fetch": "fetch",
}

if __name__ == "__main__":
    dispatch("scripts.evaluate", COMMANDS)
