"""What must be equal between two executions of one study."""

from __future__ import annotations

import hashlib
from pathlib import Path

EXACT = (
    "data/**/manifest.json",
    "checkpoints/*/manifest.json",
    "checkpoints/*/metrics.jsonl",
    "checkpoints/*/global_step*/**/*",
    "models/**/*",
    "results/evals/**/*",
    "results/memorization/**/*",
    "exports/**/*",
    "results/export/**/*",
    "results/tables/*",
)


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of every exact file by its path; record.json, which holds times and hosts, is left out."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in EXACT
        for path in sorted(folder.glob(pattern))
        if path.is_file() and not path.name.endswith("record.json")
    }
