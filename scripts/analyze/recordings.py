"""Read what was recorded of a run: the tensors of a step, or a table of all steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scripts.common import manifest
from scripts.common.errors import UserError, explain
from scripts.study import paths
from scripts.study.manifests import RecordingFacts
from scripts.study.recordings import RunRecording

if TYPE_CHECKING:
    from torch import Tensor


def tensors(recording: RunRecording, step: int) -> dict[str, Tensor]:
    """The tensors of a step by kind and name, "gradient/2.mlp.dense_h_to_4h.weight"; raises UserError for a step that
    was not recorded, or a recording that keeps none."""
    from safetensors.torch import load_file

    _require(recording)
    if not recording.in_full:
        raise UserError(explain(f"{recording.key}.reduce", recording.asked.reduce, "full, to have tensors of a step"))
    if step not in recording.steps:
        asked = recording.steps
        shown = f"every {asked.step} from {asked[0]} to {asked[-1]}" if isinstance(asked, range) else str(list(asked))
        raise UserError(explain("step", step, shown))
    found: dict[str, Tensor] = load_file(paths.recorded(recording.name, recording.run.name, step))
    return found


def table(recording: RunRecording, name: str | None = None) -> pd.DataFrame:
    """A table of all steps, "losses" or "statistics"; without a name that which there is. Raises UserError."""
    _require(recording)
    known = recording.tables
    if (len(known) != 1) if name is None else (name not in known):
        raise UserError(explain("table", name, " or ".join(known) or f"none: {recording.key} keeps tensors alone"))
    return pd.read_parquet(paths.recorded_table(recording.name, recording.run.name, name or known[0]))


def _require(recording: RunRecording) -> None:
    """Refuse a recording that is not made, or of other settings; raises UserError."""
    folder = paths.recording(recording.name, recording.run.name)
    if not (folder / manifest.NAME).exists():
        raise UserError(
            f"{folder}: not made yet\n  fix: make recordings, or make study TARGET={folder}/{manifest.NAME}"
        )
    found = manifest.read(folder, RecordingFacts)
    manifest.same_settings(folder / manifest.NAME, found.settings, recording.settings())
