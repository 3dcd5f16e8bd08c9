"""The commands of this package: python -m scripts.operate --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "closing": "closing",
    "start": "start",
    "status": "status.status",
    "why": "why.why",
    "check": "preflight",
    "watch": "watch",
}

if __name__ == "__main__":
    dispatch("scripts.operate", COMMANDS)
