"""Read what the stages left behind, exactly the runs and steps the study names.

A missing, short or foreign file is a UserError that names the file and the fact: a table with holes
would look like a result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.files import parse_json, read_json
from scripts.study import paths
from scripts.study.manifests import CheckpointFacts, ReplayedFacts, RunFacts

if TYPE_CHECKING:
    import pyarrow as pa

NAMED_AT_MOST = 5
WHY = "the study names these runs and steps, so run them first"


def require(asked: Iterable[Path], why: str = WHY) -> None:
    """Raise one UserError that names the files that are missing, and why they are needed."""
    missing = [path for path in asked if not path.exists()]
    if not missing:
        return
    named = ", ".join(map(str, missing[:NAMED_AT_MOST]))
    more = f" and {len(missing) - NAMED_AT_MOST} more" if len(missing) > NAMED_AT_MOST else ""
    raise UserError(f"missing: {named}{more}; {why}")


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a JSON-lines file; a damaged line is a UserError with its number."""
    lines = path.read_bytes().splitlines()
    read = []
    for number, line in enumerate(lines, start=1):
        try:
            read.append(parse_json(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error})") from None
    return read


def training_losses(run: str, steps: int, after: int = 0) -> list[dict[str, Any]]:
    """checkpoints/<run>/metrics.jsonl, which must hold the steps past `after` up to `steps` once each, in order."""
    path = paths.checkpoints(run) / paths.METRICS
    require([path.with_name(manifest.NAME), path])
    manifest.read(path.parent, RunFacts)
    lines = json_lines(path)
    found = [line["step"] for line in lines]
    wanted = range(after + 1, steps + 1)
    if found != list(wanted):
        odd = next((want for want, have in zip(wanted, found, strict=False) if want != have), None)
        fact = f"step {odd} is not where it belongs" if odd else f"{len(found)} steps"
        raise UserError(f"{path}: {fact}; the study asks for steps {after + 1} to {steps}, once each")
    return lines


def held_out_losses(run: str, steps: list[int]) -> list[dict[str, Any]]:
    """checkpoints/<run>/held_out.jsonl, one line for each saved step, in order."""
    path = paths.checkpoints(run) / paths.HELD_OUT_LOSSES
    require([path])
    lines = {line["step"]: line for line in json_lines(path)}
    lines |= {step: line for step in steps if step not in lines and (line := _made_again(run, step))}
    if absent := [step for step in steps if step not in lines]:
        raise UserError(f"{path}: no line for saved steps {absent}")
    return [lines[step] for step in steps]


def _made_again(run: str, step: int) -> dict[str, Any] | None:
    """The line of a checkpoint that a replay made, which its manifest holds."""
    folder = paths.checkpoint(run, step)
    if not (folder / manifest.NAME).exists():
        return None
    facts = manifest.read(folder, CheckpointFacts).facts
    return facts.held_out if isinstance(facts, ReplayedFacts) else None


def scores(run: str, task_set: str, step: int) -> dict[str, Any]:
    """results/evals/<run>/<task set>/step<N>.json, checked to be of that run, task set and step."""
    path = paths.evaluation(run, task_set, step)
    content: dict[str, Any] = _read_json(path)
    found = (content.get("run"), content.get("task_set"), content.get("step"))
    if found != (run, task_set, step):
        raise UserError(f"{path}: holds {found}, expected {(run, task_set, step)}")
    if not content.get("results"):
        raise UserError(f"{path}: holds no scores")
    return content


def scored_sequences(run: str, step: int) -> pa.Table:
    """A checkpoint's memorization scores; raises UserError if the file is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = paths.memorization(run, step)
    try:
        found = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}); delete it to have it made again") from None
    if "sample_index" not in found.column_names:
        raise UserError(f"{path}: no column sample_index; delete it to have it made again")
    return found


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
