"""The commands of this package: python -m scripts.audit --help."""

from scripts.common.commands import dispatch

COMMANDS = {
    "integrity": "integrity.audit",
    "page": "page",
    "replay": "replay.replay",
    "replay-data": "replay.data",
    "replay-leg": "replay.leg",
    "replay-model": "replay.model",
    "recency": "recency.signal",
    "recency-figure": "recency.figure",
    "external": "external.suite",
    "provenance": "provenance.evidence",
}

if __name__ == "__main__":
    dispatch("scripts.audit", COMMANDS)
