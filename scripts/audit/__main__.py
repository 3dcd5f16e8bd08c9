"""The commands of this package: python -m scripts.audit --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "integrity": "integrity.audit",
    "page": "page",
    "replay": "replay.replay",
    "replay-data": "replay.data",
    "replay-segment": "replay.segment",
    "replay-model": "replay.model",
    "recency": "recency.measure",
    "recency-figure": "recency.figure",
    "external": "external.suite",
    "provenance": "provenance.provenance",
}

if __name__ == "__main__":
    dispatch("scripts.audit", COMMANDS)
