"""The commands of this package: python -m scripts.report --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "figures": "figures.figures",
    "findings": "findings.findings",
    "index": "pages.index",
    "compare": "pages.compare",
    "science": "pages.science",
    "cards": "cards.cards",
}

if __name__ == "__main__":
    dispatch("scripts.report", COMMANDS)
