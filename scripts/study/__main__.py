"""The commands of this package: python -m scripts.study --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "schema": "schema",
}

if __name__ == "__main__":
    dispatch("scripts.study", COMMANDS)
