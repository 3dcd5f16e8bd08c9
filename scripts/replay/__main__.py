"""The commands of this package: python -m scripts.replay --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "steps": "steps",
    "record": "record",
    "spikes": "spikes",
    "zoom": "zoom",
    "list": "kept",
    "drop": "drop",
}

if __name__ == "__main__":
    dispatch("scripts.replay", COMMANDS)
