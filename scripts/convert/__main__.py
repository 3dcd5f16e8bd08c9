"""The commands of this package: python -m scripts.convert --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "convert": "convert",
    "fetch": "fetch",
    "from-neox": "from_neox",
    "to-neox": "to_neox",
    "inspect": "inspect",
    "publish": "publish.publish",
}

if __name__ == "__main__":
    dispatch("scripts.convert", COMMANDS)
