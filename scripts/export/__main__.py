"""The commands of this package: python -m scripts.export --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "write": "write",
    "measure": "measure",
    "footprint": "footprint",
}

if __name__ == "__main__":
    dispatch("scripts.export", COMMANDS)
