"""The commands of this package: python -m scripts.memorize --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "score": "score",
}

if __name__ == "__main__":
    dispatch("scripts.memorize", COMMANDS)
