"""Read published scores of Pythia and PolyPythias, to be shown beside a study's own.

Four layouts: a CSV of model, num_fewshot, step, task, metric, value; the JSON of lm-eval 0.3 (Pythia's own
`evals/pythia-v1/<model>/<shots>/<size>_step<N>.json`); that which GPT-NeoX wrote with it (`evals/pythia-v0`,
`evals/bias-evals`); that of lm-eval 0.4 (`EleutherAI/polypythias-evals`:
`<model>/step<N>/<model>/results_<time>.json`). Names become today's: `hendrycksTest-<x>` is `mmlu_<x>`, `ppl` is
`perplexity`; models are named as runs (scripts/analyze/external/names.py). What a file says of itself counts, not its
name: the five-shot names of 1b's zero-shot files are wrong, as is v0's folder `five-shot` of 160m, 410m and 1.4b.

Of several files with one score counts, in this order, one in the folder of its number of examples (`zero-shot`,
`five-shot`), the latest by the time in its name, the last by its path; the others are listed.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.analyze.external.names import ExternalModel, model_in, model_of
from scripts.common.errors import UserError
from scripts.common.files import parse_json
from scripts.common.untrusted import read_bytes
from scripts.study.catalogue import CATALOGUE

COLUMNS = ("model", "num_fewshot", "step", "task", "metric", "value")
METRICS = {"ppl": "perplexity", "likelihood_difference": "likelihood_diff"}
FOLDERS = {0: "zero-shot", 5: "five-shot"}
STEP = re.compile(r"step[-_]?(\d{1,9})")
NAMED_STEP = re.compile(r"(?:^|[/_-])step(\d{1,9})(?=[/_.]|$)")
FILE = re.compile(r"(?P<model>.+?)(?:-\d+-?shot)?[-_](?:global_)?step(?P<step>\d{1,9})(?:_.*)?")
AMERICAN = re.compile(r"(\d\d)-(\d\d)-(\d{4})-(\d\d)-(\d\d)-(\d\d)")  # month first, as GPT-NeoX names its files
TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T_-](\d\d)[-:](\d\d)[-:](\d\d)(?:\.\d+)?)?")
LARGEST = 1 << 28  # bytes of a result file; published ones have up to 3 MB
# arguments of lm-eval with which other weights are scored than those that were published
OTHER_WEIGHTS = ("peft", "delta", "gguf_file", "load_in_8bit", "load_in_4bit", "autogptq", "gptqmodel")
COUNT = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Score:
    """One published number; `model` is named as a run of studies/pythia.yaml, polypythias.yaml, pythia-v0.yaml ..
    and `step` counts the optimizer's, `published_step` as its published revisions do."""

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

    @property
    def published_step(self) -> int:
        """The number in the name of the published revision: twice the step of v0's 160m, 410m and 1.4b."""
        model = model_of(self.model)
        return self.step * (model.step_in_revision if model else 1)


@dataclass(frozen=True)
class Published:
    """Scores sorted by what they are of; remarks on files that were left out, misplaced or gave way to others."""

    scores: list[Score]
    remarks: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """Plain rows of a table."""
        return [{**asdict(score), "published_step": score.published_step} for score in self.scores]


def read(path: Path) -> Published:
    """Scores of a CSV, of a JSON file, or of all JSON files below a folder.

    A file of a folder that is no result of a Pythia model is left out. Raises UserError if there is nothing to read.
    """
    if path.is_dir():
        return _gathered(sorted(path.rglob("*.json")), path)
    if not path.is_file():
        raise UserError(f"published scores: {path} is no file or folder (seen from {Path.cwd()})")
    if path.suffix == ".json":
        return _sorted([(path, list(json_scores(path)))], [])
    if not (rows := [(path, [score]) for score in csv_scores(path)]):
        raise UserError(f"{path}: holds no score; a line each is {', '.join(COLUMNS)}")
    return _sorted(rows, [])


def _gathered(files: list[Path], root: Path) -> Published:
    found, left_out = [], []
    for file in files:
        try:
            scores = list(json_scores(file))
        except UserError as error:
            left_out.append(str(error))
            continue
        if odd := _in_folder_of_another(file.relative_to(root), scores[0].model):
            left_out.append(f"{file}: holds scores of {scores[0].model}, in the folder of {odd}")
        else:
            found.append((file, scores))
    if not found:
        reasons = "".join(f"\n  {reason}" for reason in left_out[:3])
        raise UserError(f"published scores: {root} holds no .json file of a Pythia's scores{reasons}")
    return _sorted(found, left_out)


def _in_folder_of_another(file: Path, run: str) -> str | None:
    """The model that a folder is named after, if it is not this one in any suite, changed or not."""
    model = model_of(run)
    folders = (model_of(part) for part in file.parts[:-1])
    return next((found.names[0] for found in folders if found and model and not found.same_run(model)), None)


def _sorted(found: list[tuple[Path, list[Score]]], left_out: list[str]) -> Published:
    """One score of each kind, by the rule above; files that lost some to another are named with how many."""
    best: dict[tuple[Any, ...], tuple[Path, Score]] = {}
    lost: dict[tuple[Path, Path], int] = {}
    for file, scores in sorted(found, key=lambda item: _rank(item[0], item[1][0].shots)):
        for score in scores:
            before = best.get(score.key)
            if before and not (before[0] == file and before[1].value == score.value):
                lost[before[0], file] = lost.get((before[0], file), 0) + 1
            best[score.key] = file, score
    told = [
        f"{file}: {count} scores stand there twice, the later ones were taken" if file == winner
        else f"{file}: {count} scores give way to those of {winner}"
        for (file, winner), count in sorted(lost.items())
    ]  # fmt: skip
    return Published([best[key][1] for key in sorted(best)], left_out + _misplaced(found) + told)


def _misplaced(found: list[tuple[Path, list[Score]]]) -> list[str]:
    """Files in the folder of another number of examples than they say of themselves."""
    return [
        f"{file}: lies in {file.parent.name}, but says {scores[0].shots} examples and counts as that"
        for file, scores in found
        if file.parent.name in FOLDERS.values() and file.parent.name != FOLDERS.get(scores[0].shots)
    ]


def _rank(file: Path, shots: int) -> tuple[bool, str, str]:
    """Files in the order in which the later one counts."""
    return file.parent.name == FOLDERS.get(shots), time_in(file.name), file.as_posix()


def time_in(name: str) -> str:
    """The time in a file's name as text that sorts by it, "" if there is none."""
    if found := AMERICAN.search(name):
        month, day, year, *clock = found.groups()
        return "-".join([year, month, day, *clock])
    found = TIME.search(name)
    return "-".join(part or "00" for part in found.groups()) if found else ""


def csv_scores(path: Path) -> Iterator[Score]:
    """Scores of a CSV; raises UserError for another header or a value that is no number, with its line."""
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        try:
            if missing := set(COLUMNS) - set(reader.fieldnames or ()):
                raise UserError(
                    f"{path}: no column {', '.join(sorted(missing))}; a CSV of scores has {', '.join(COLUMNS)}"
                )
            yield from (_of_row(row, f"{path}, line {reader.line_num}") for row in reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}, after line {reader.line_num}: no CSV in UTF-8 ({error})") from None


def _of_row(row: dict[str, Any], where: str) -> Score:
    if None in row or None in row.values():
        raise UserError(f"{where}: not as many values as the first line has names")
    if not all((row["model"], row["task"], row["metric"])):
        raise UserError(f"{where}: no model, task or metric: {row}")
    if odd := [row[key] for key in ("num_fewshot", "step") if not COUNT.fullmatch(row[key])]:
        raise UserError(f"{where}: not a number where one belongs: {odd[0][:100]!r}")
    try:
        value = float(row["value"].replace("_", "?"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: not a number where one belongs: {row['value'][:100]!r}")
    shots, step = int(row["num_fewshot"]), int(row["step"])
    model = model_of(row["model"].rpartition("/")[2])
    name = model.names[0] if model else row["model"]
    return Score(name, shots, step, task_name(row["task"]), metric_name(row["metric"]), value, None)


def json_scores(path: Path) -> Iterator[Score]:
    """Scores of one of lm-eval's result files, at least one; raises UserError for a file of another kind."""
    try:
        content = _mapping(parse_json(read_bytes(path, LARGEST)), "the file")
        found = list(_scores(content, path))
        if not found:
            raise ValueError("no score in it is a number")
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: not a result file of lm-eval ({type(error).__name__}: {error})") from None
    yield from found


def _scores(content: dict[str, Any], path: Path) -> Iterator[Score]:
    results, config = _mapping(content["results"], "`results`"), _mapping(content["config"], "`config`")
    if config.get("limit"):
        raise ValueError(f"with `limit` {config['limit']!r} a part of each task was scored")
    model, step = _model_and_step(content, config, path)
    shots_of = _mapping(content.get("n-shot") or {}, "`n-shot`")
    tasks = {task: _mapping(values, f"`results.{task}`") for task, values in results.items()}
    of_04 = any(
        "," in name for values in tasks.values() for name in values
    )  # then keys without a filter are no metrics
    for task, values in tasks.items():
        shots = _count(shots_of.get(task, config.get("num_fewshot")) or 0, f"number of examples of {task}")
        for name, value in values.items():
            metric, comma, filtered = name.partition(",")
            number = _number(value)
            if metric.endswith("_stderr") or number is None or bool(comma) != of_04 or not (task and metric):
                continue
            stderr = values.get(f"{metric}_stderr,{filtered}" if comma else f"{metric}_stderr")
            kept = metric_name(metric) if filtered in ("", "none") else f"{metric},{filtered}"
            yield Score(model.names[0], shots, step, task_name(task), kept, number, _number(stderr))


def _model_and_step(content: dict[str, Any], config: dict[str, Any], path: Path) -> tuple[ExternalModel, int]:
    """Of config.model_args, a text or a mapping, or of model_name and the path where those are silent."""
    arguments = config.get("model_args") or {}
    if isinstance(arguments, str):
        arguments = dict(part.partition("=")[::2] for part in arguments.split(","))
    arguments = _mapping(arguments, "`config.model_args`")
    if config.get("model") == "neox":
        return _of_neox(arguments, path)
    if other := [key for key in OTHER_WEIGHTS if str(arguments.get(key)) not in ("None", "False", "")]:
        raise ValueError(f"with `{other[0]}` it is another model that was scored")
    weights = str(arguments.get("pretrained") or content.get("model_name") or "")
    if (model := model_in(weights)) is None:
        raise ValueError("it names no Pythia model")
    if not (revision := arguments.get("revision")):
        if not (steps := NAMED_STEP.findall(weights) or NAMED_STEP.findall(path.as_posix())):
            raise ValueError("it names no step")
        return model, int(steps[-1])  # what is nearest to the file; folders around the whole may be named so too
    if (named := STEP.fullmatch(str(revision))) is None:
        raise ValueError(f"its revision {revision!r} names no step")
    step, rest = divmod(int(named[1]), model.step_in_revision)
    if rest:
        raise ValueError(f"v0's {model.size} has no revision step{named[1]}")
    return model, step


def _of_neox(arguments: dict[str, Any], path: Path) -> tuple[ExternalModel, int]:
    """Scored by GPT-NeoX itself, as v0 was: the file's name names the model, which its configuration must fit."""
    named = FILE.fullmatch(path.stem)
    model = model_of(named["model"], bare=True) if named else None
    if named is None or model is None:
        raise ValueError("it was scored by GPT-NeoX, and its name names no Pythia model and step")
    step = _count(arguments.get("iteration", int(named["step"])), "`iteration`")
    if step != int(named["step"]):
        raise ValueError(f"its name says step {named['step']}, its configuration {step}")
    size = CATALOGUE.get(model.size)
    if size is None or (size.layers, size.width) != tuple(arguments.get(key) for key in ("num_layers", "hidden_size")):
        raise ValueError(f"its name says {model.size}, its configuration another shape")
    return model.of_v0(), step


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is a {type(value).__name__}, not an object")
    return value


def _count(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{what} is {value!r}")
    return value


def _number(value: Any) -> float | None:
    """A finite number, or None for anything else; lm-eval has NaN for what it could not compute."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def task_name(task: str) -> str:
    """A task's name in lm-eval 0.4."""
    return task.replace("hendrycksTest-", "mmlu_") if task.startswith("hendrycksTest-") else task


def metric_name(metric: str) -> str:
    """A metric's name in lm-eval 0.4."""
    return METRICS.get(metric, metric)
