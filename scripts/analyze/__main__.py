"""The commands of this package: python -m scripts.analyze --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "external-memorization": "external.memorization",
    "export": "export_table",
    "tables": "tables",
    "timings": "timings",
}

if __name__ == "__main__":
    dispatch("scripts.analyze", COMMANDS)
