"""The JSON-lines a run writes: metrics and held-out losses (exact), timing (not)."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.study import paths
from scripts.study.manifests import Updates
from scripts.train.trackers import Trackers

EXACT = (paths.METRICS, paths.HELD_OUT_LOSSES)


class MetricsLog:
    """Append-only files in a run's folder, and the trackers that show the same lines; only rank 0 writes."""

    def __init__(self, root: Path, active: bool, trackers: Trackers) -> None:
        self.root, self.active, self.trackers = root, active, trackers

    def rewind(self, lengths: dict[str, int]) -> None:
        """Cut the exact files to the lengths in bytes a resume state names; none named: start anew."""
        if not self.active:
            return
        for name in EXACT:
            path, length = self.root / name, lengths.get(name, 0)
            path.touch()
            if path.stat().st_size < length:
                raise UserError(f"{path}: {path.stat().st_size} bytes, the resume state was saved after {length}")
            os.truncate(path, length)
        (self.root / paths.TIMING).touch()
        self.trackers.open(self.root, max(last_step(self.root / name) for name in EXACT))

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Append one line."""
        if self.active:
            with (self.root / name).open("a") as handle:
                handle.write(json.dumps(line) + "\n")
            self.trackers.write(name, line)

    def lengths(self) -> dict[str, int]:
        """Length in bytes of each exact file, flushed to disk."""
        if not self.active:
            return {}
        self.trackers.flush()
        for name in EXACT:
            with (self.root / name).open("rb") as handle:
                os.fsync(handle.fileno())
        return {name: (self.root / name).stat().st_size for name in EXACT}

    def close(self) -> None:
        """Nothing more will come."""
        self.trackers.close()

    def updates(self, after: int, upto: int) -> Updates:
        """Of the updates in (after, upto], what a manifest tells."""
        digest, lines = hashlib.sha256(), []
        for text in (self.root / EXACT[0]).read_text().splitlines():
            line = json.loads(text)
            if after < line["step"] <= upto:
                digest.update(line["sequences"].encode())
                lines.append(line)
        applied = sum(line["applied"] for line in lines)
        rates = [line["learning_rate"] for line in lines]
        return Updates(
            samples_digest=digest.hexdigest(),
            updates_applied=applied,
            updates_skipped=len(lines) - applied,
            learning_rates=(min(rates), max(rates)) if rates else None,
        )


def last_step(path: Path) -> int:
    """Step of a file's last line, or -1 if it has none."""
    lines = path.read_text().splitlines()
    return int(json.loads(lines[-1])["step"]) if lines else -1
