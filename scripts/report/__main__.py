"""The commands of this package: python -m scripts.report --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "figures": "figures.figures",
    "findings": "findings.findings",
    "index": "pages.index",
    "compare": "pages.compare",
    "cards": "cards.cards",
}

if __name__ == "__main__":
    dispatch("scripts.report", COMMANDS)
