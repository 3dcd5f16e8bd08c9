"""Read published scores of Pythia and PolyPythias, to be shown beside a study's own.

Three layouts: a CSV of model, num_fewshot, step, task, metric, value; the JSON of lm-eval 0.3 (Pythia's own
`evals/pythia-v1/<model>/<shots>/<size>_step<N>.json`); that of lm-eval 0.4 (`EleutherAI/polypythias-evals`:
`<model>/step<N>/<model>/results_<time>.json`). Names become today's: `hendrycksTest-<x>` is `mmlu_<x>`, `ppl` is
`perplexity`, `pythia-v1.1-1b-bf16` is `pythia-1b`. What a file says of itself counts, not its name: the five-shot
names of 1b's zero-shot files are wrong.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError

COLUMNS = ("model", "num_fewshot", "step", "task", "metric", "value")
METRICS = {"ppl": "perplexity", "likelihood_difference": "likelihood_diff"}
MODEL = re.compile(r"(pythia-[A-Za-z0-9._-]+)")
REVISION = re.compile(r"revision=step(\d+)")
STEP = re.compile(r"(?:^|[/_])step(\d+)(?:[/_.]|$)")


@dataclass(frozen=True)
class Score:
    """One published number; `model` is named as a run of studies/pythia.yaml or studies/polypythias.yaml."""

    model: str
    shots: int
    step: int
    task: str
    metric: str
    value: float
    stderr: float | None

    @property
    def key(self) -> tuple[str, int, int, str, str]:
        """What it is the score of."""
        return self.model, self.shots, self.step, self.task, self.metric


@dataclass(frozen=True)
class Published:
    """Scores sorted by what they are of, and files that were left out with the reason."""

    scores: list[Score]
    left_out: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """Plain rows of a table."""
        return [asdict(score) for score in self.scores]


def read(path: Path) -> Published:
    """Scores of a CSV, of a JSON file, or of all JSON files below a folder; of two of the same the later file counts.

    Raises UserError if there is nothing to read or a file has none of the layouts.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.json"), key=lambda file: (file.name, file.as_posix()))  # names end with the time
        if not files:
            raise UserError(f"evaluation.published: {path} holds no .json file")
        return _gathered(files, path)
    if not path.exists():
        raise UserError(f"evaluation.published: {path} does not exist (seen from {Path.cwd()})")
    if path.suffix == ".json":
        return _gathered([path], path.parent)
    return Published(_latest(csv_scores(path)), [])


def _gathered(files: list[Path], root: Path) -> Published:
    found: list[Score] = []
    left_out = []
    for file in files:
        scores = list(json_scores(file))
        named = model_name(file.relative_to(root).parts[0]) if len(file.relative_to(root).parts) > 1 else None
        says = {score.model for score in scores}
        if named and says and says != {named}:
            left_out.append(f"{file}: holds scores of {', '.join(sorted(says))}, in the folder of {named}")
            continue
        found += scores
    return Published(_latest(found), left_out)


def _latest(scores: Iterable[Score]) -> list[Score]:
    by_key = {score.key: score for score in scores}
    return [by_key[key] for key in sorted(by_key)]


def csv_scores(path: Path) -> Iterator[Score]:
    """Scores of a CSV; raises UserError for another header or a value that is no number, with its line."""
    with path.open(newline="", encoding="utf-8") as handle:
        reader = csv.DictReader(handle)
        if missing := set(COLUMNS) - set(reader.fieldnames or ()):
            raise UserError(f"{path}: no column {', '.join(sorted(missing))}; a CSV of scores has {', '.join(COLUMNS)}")
        for row in reader:
            try:
                shots, step, value = int(row["num_fewshot"]), int(row["step"]), float(row["value"])
            except (TypeError, ValueError):
                raise UserError(f"{path}, line {reader.line_num}: not a number where one belongs: {row}") from None
            model = model_name(row["model"]) or row["model"]
            yield Score(model, shots, step, task_name(row["task"]), metric_name(row["metric"]), value, None)


def json_scores(path: Path) -> Iterator[Score]:
    """Scores of one of lm-eval's result files; raises UserError for a file of another kind."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results, config = content["results"], content["config"]
        model, step = _model_and_step(content, path)
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a result file of lm-eval ({type(error).__name__}: {error})") from None
    shots_of = content.get("n-shot", {})
    for task, values in results.items():
        shots = shots_of.get(task, config.get("num_fewshot")) or 0
        for name, value in values.items():
            metric, _, filtered = name.partition(",")
            if metric.endswith("_stderr") or not _is_number(value):
                continue
            stderr = values.get(f"{metric}_stderr,{filtered}" if filtered else f"{metric}_stderr")
            kept = metric_name(metric) if filtered in ("", "none") else f"{metric},{filtered}"
            spread = float(stderr) if _is_number(stderr) else None
            yield Score(model, int(shots), step, task_name(task), kept, float(value), spread)


def _model_and_step(content: dict[str, Any], path: Path) -> tuple[str, int]:
    """Of config.model_args, a text or a mapping, or of model_name and the path where those are silent."""
    arguments = content["config"].get("model_args") or ""
    if isinstance(arguments, dict):
        arguments = ",".join(f"{key}={value}" for key, value in arguments.items())
    model = model_name(arguments) or model_name(str(content.get("model_name") or ""))
    revision = REVISION.search(arguments) or STEP.search(path.as_posix())
    if model is None or revision is None:
        raise ValueError("it names no Pythia model or no step")
    return model, int(revision.group(1))


def model_name(text: str) -> str | None:
    """The run a published model is a run of: pythia-160m-deduped, pythia-70m-seed3; None if no Pythia is named."""
    found = MODEL.search(text.replace("__", "/"))
    if found is None:
        return None
    return found.group(1).replace("pythia-v1.1-", "pythia-").replace("-bf16", "").rstrip(".-_")


def task_name(task: str) -> str:
    """A task's name in lm-eval 0.4."""
    return task.replace("hendrycksTest-", "mmlu_") if task.startswith("hendrycksTest-") else task


def metric_name(metric: str) -> str:
    """A metric's name in lm-eval 0.4."""
    return METRICS.get(metric, metric)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
