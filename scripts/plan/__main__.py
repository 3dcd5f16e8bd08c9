"""The commands of this package: python -m scripts.plan --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "show": "plan",
}

if __name__ == "__main__":
    dispatch("scripts.plan", COMMANDS)
