"""The commands of this package: python -m scripts.science --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "make": "make",
}

if __name__ == "__main__":
    dispatch("scripts.science", COMMANDS)
