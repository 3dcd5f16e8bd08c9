"""Gather a study's results into tidy tables: results/tables/*.parquet and *.csv (docs/formats.md).

Reads exactly the runs and steps the study names; rows are sorted, so equal results give equal bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scripts.analyze import sources
from scripts.analyze.external import scores as published
from scripts.analyze.external import twins
from scripts.analyze.external.names import model_of
from scripts.analyze.memorization.tables import all_tables
from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import atomic
from scripts.study import paths, targets
from scripts.study.manifests import ClustersFacts, CorpusFacts, TextSize
from scripts.study.runs import Run
from scripts.study.stages import EVALUATE, MEMORIZE, OF_EVERY_RUN, Stage
from scripts.study.study import Study, load

Row = dict[str, Any]
Place = Callable[[str, str], Path]
IDENTITY = ["run", "size", "non_embedding", "corpus", "init_seed", "data_seed", "intervention"]
EVALS = [*IDENTITY, "step", "tokens", "task_set", "shots", "task", "metric", "value", "stderr", "n", "commonest_answer"]
MEMORIZATION = [*IDENTITY, "step", "tokens", "chosen", "seen", "sequences", "memorized", "fraction", "mean_score"]
EXTERNAL = ["model", *IDENTITY, "step", "published_step", "shots", "task", "metric", "value", "stderr"]


def identity(spec: Run) -> dict[str, Any]:
    """The run's columns, the same in every table."""
    return {
        "run": spec.name,
        "size": spec.size.name,
        "non_embedding": spec.size.non_embedding_parameters,
        "corpus": spec.corpus,
        "init_seed": spec.init_seed,
        "data_seed": spec.data_seed,
        "intervention": spec.origin.intervention if spec.origin else "",
    }


def tokens_at(spec: Run, step: int) -> int:
    """Tokens predicted in the first `step` steps."""
    return step * spec.training.batch_size * spec.training.sequence_length


def losses(study: Study) -> pd.DataFrame:
    """A row per run and step: training loss (nats per token), learning rate, gradient norm."""
    parts = []
    sources.require(paths.checkpoints(name) / "manifest.json" for name in study.trained)
    for spec in study.trained.values():
        # one run at a time: a full Pythia suite has millions of lines
        lines = pd.DataFrame(sources.training_losses(spec.name, spec.training.steps, spec.first_step))
        part = lines[["step", "loss", "learning_rate", "gradient_norm"]].assign(**identity(spec))
        part.insert(1, "tokens", tokens_at(spec, 1) * part["step"])
        parts.append(part)
    columns = [*IDENTITY, "step", "tokens", "loss", "learning_rate", "gradient_norm"]
    return _sorted(pd.concat(parts, ignore_index=True)[columns])


def held_out(study: Study) -> pd.DataFrame:
    """A row per run, saved step and component ("all" first): held-out loss in nats per token."""
    return _frame(
        {
            **identity(spec),
            "step": line["step"],
            "tokens": tokens_at(spec, line["step"]),
            "component": name,
            "loss": loss,
        }
        for spec in study.trained.values()
        for line in sources.held_out_losses(spec.name, study.steps(spec.name))
        for name, loss in [("all", line["loss"]), *sorted(line["components"].items())]
    )


def of_outputs(study: Study, stage: Stage, rows: Callable[[str, int, str], Iterable[Row]]) -> pd.DataFrame:
    """What `rows` gives of each output of a stage (run, step, part), with the run's columns, `step` and `tokens`."""
    asked = [
        (spec, step, part)
        for spec in study.runs.values()
        for part in stage.parts(study)
        for step in stage.steps(study, spec.name)
    ]
    sources.require(Path(stage.file(spec.name, step, part)) for spec, step, part in asked)
    return _frame(
        {**identity(spec), "step": step, "tokens": tokens_at(spec, step), **row}
        for spec, step, part in asked
        for row in rows(spec.name, step, part)
    )


def of_stage(study: Study, stage: Stage) -> pd.DataFrame:
    """The table of a stage whose package says what stands in it: `rows(path)` of its command's module.

    A stage with parts has a column `part`. This is the one place where analysis finds a stage by name.
    """
    rows_of: Callable[[Path], Iterable[Row]] = import_module(".".join(stage.command)).rows

    def rows(run: str, step: int, part: str) -> list[Row]:
        path = Path(stage.file(run, step, part))
        try:
            return [{**({"part": part} if part else {}), **row} for row in rows_of(path)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged ({error!r}); delete it to have it made again") from None

    frame = of_outputs(study, stage, rows)
    return frame if len(frame) else pd.DataFrame(columns=[*IDENTITY, "step", "tokens"])


def evals(study: Study) -> pd.DataFrame:
    """A row per run, evaluated step, task and metric; `stderr` is null where lm-eval gives none."""

    def rows(run: str, step: int, task_set: str) -> list[Row]:
        return [{"task_set": task_set, **row} for row in score_rows(sources.scores(run, task_set, step))]

    frame = of_outputs(study, EVALUATE, rows).reindex(columns=EVALS)
    return frame.astype({"n": "Int64", "commonest_answer": float})


def external_scores(study: Study, place: str) -> pd.DataFrame:
    """A row per published score; with the size's columns where the model is named as a run or a size of the study."""
    found = published.read(Path(place))
    for line in [*found.remarks, *twins.sentences(twins.twins((*score.key, score.value) for score in found.scores))]:
        print(line)
    own = {name: _of_a_run(study, name) for name in {score.model for score in found.scores}}
    rows = [{**row, **own[row["model"]]} for row in found.rows()]
    frame = pd.DataFrame(rows, columns=EXTERNAL)
    whole = dict.fromkeys(["non_embedding", "init_seed", "data_seed"], "Int64")
    return frame.astype({**whole, "stderr": float})


def _of_a_run(study: Study, model: str) -> dict[str, Any]:
    """Identity of the run that a published model is, by any of its names; nothing but None if it is none's."""
    named = model_of(model)
    spec = next((study.runs[name] for name in (named.names if named else (model,)) if name in study.runs), None)
    return identity(spec) if spec else dict.fromkeys(IDENTITY)


def score_rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a task and metric of a result file; lm-eval names them "<metric>,<filter>".

    `commonest_answer` is the fraction of items that got the task's commonest answer, None where there are no choices.
    """
    rows = []
    for task, values in sorted(content["results"].items()):
        for key, value in sorted(values.items()):
            metric, comma, filtered = key.partition(",")
            if not comma or metric.endswith("_stderr") or not _is_number(value):
                continue
            stderr = values.get(f"{metric}_stderr,{filtered}")
            rows.append(
                {
                    "shots": content["shots"],
                    "task": task,
                    "metric": metric if filtered == "none" else f"{metric},{filtered}",
                    "value": float(value),
                    "stderr": float(stderr) if _is_number(stderr) else None,
                    "n": content["n"].get(task),
                    "commonest_answer": content.get("commonest_answer", {}).get(task),
                }
            )
    return rows


def memorization(study: Study) -> pd.DataFrame:
    """A row per run, scored step, kind of sequence and whether the checkpoint had seen it."""
    rows = of_outputs(study, MEMORIZE, lambda run, step, _: memorized_rows(sources.scored_sequences(run, step)))
    return rows.reindex(columns=MEMORIZATION)


def memorized_rows(scored: pa.Table) -> list[dict[str, Any]]:
    """Counts of one checkpoint by kind ("sample", "repeated") and `seen`; groups without rows are left out."""
    frame = scored.select(["chosen", "seen", "memorized", "score"]).to_pandas()
    return [
        {
            "chosen": chosen,
            "seen": bool(seen),
            "sequences": len(group),
            "memorized": int(group["memorized"].sum()),
            "fraction": float(group["memorized"].mean()),
            "mean_score": float(group["score"].mean()),
        }
        for (chosen, seen), group in frame.groupby(["chosen", "seen"], sort=True)
    ]


def runs(study: Study, train: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """A row per run; the final training loss is the mean of the last twentieth of its steps, single ones are noisy.

    `sequences_digest` is that of the sequence digests of all steps: equal if the same sequences were read in the same
    order.
    """
    rows = []
    for spec in study.trained.values():
        last = spec.training.steps
        of_run = train[train["run"] == spec.name]
        closing = of_run[of_run["step"] > last - max(1, last // 20)]
        read = "".join(line["sequences"] for line in sources.training_losses(spec.name, last, spec.first_step))
        at_end = held[(held["run"] == spec.name) & (held["step"] == last) & (held["component"] == "all")]
        rows.append(
            {
                **identity(spec),
                "parameters": spec.size.parameters(study.padded_vocabulary(spec.name)),
                "steps": last,
                "checkpoints": len(study.steps(spec.name)),
                "tokens": tokens_at(spec, last),
                "training_loss": float(closing["loss"].mean()),
                "held_out_loss": float(at_end["loss"].iloc[0]),
                "sequences_digest": hashlib.sha256(read.encode()).hexdigest()[:16],
            }
        )
    return _frame(rows)


def corpora(study: Study) -> pd.DataFrame:
    """A row per corpus and component: documents, tokens, and what deduplication removed.

    `documents_removed` counts near-duplicates left out of the corpus; `tokens_removed` is known where
    another corpus of the study keeps them, else null.
    """
    counted = {
        name: manifest.read(paths.corpus(name), CorpusFacts).facts.components for name in study.file.data.corpora
    }
    duplicates = _duplicates(study)
    whole: dict[str, TextSize] = {}
    for name, corpus in study.file.data.corpora.items():
        if not corpus.deduplicated:
            whole.update(counted[name])
    rows: list[dict[str, Any]] = []
    for name, corpus in study.file.data.corpora.items():
        for component in sorted(counted[name]):
            kept = counted[name].get(component, TextSize(0, 0))
            before = whole.get(component) if corpus.deduplicated else kept
            rows.append(
                {
                    "corpus": name,
                    "deduplicated": corpus.deduplicated,
                    "component": component,
                    "documents": kept.documents,
                    "tokens": kept.tokens,
                    "documents_removed": duplicates.get(component, 0) if corpus.deduplicated else 0,
                    "tokens_removed": before.tokens - kept.tokens if before else None,
                }
            )
    return pd.DataFrame(rows).astype({"tokens_removed": "Int64"})


def names(study: Study) -> list[str]:
    """The tables with a row a run that a study has (scripts/study/targets.py)."""
    files = map(Path, targets.tables(study))
    return [path.stem for path in files if path.suffix == ".parquet"]


def write(name: str, frame: pd.DataFrame, *, parquet: bool = True, place: Place = paths.table) -> None:
    """Write results/tables/<name>.csv, and .parquet beside it, without an index; another `place` has other tables."""
    with atomic(place(name, "csv")) as path:
        frame.to_csv(path, index=False, lineterminator="\n")
    if parquet:
        with atomic(place(name, "parquet")) as path:
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, compression="zstd")


def read(name: str, place: Place = paths.table) -> pd.DataFrame:
    """One of the tables written here; raises UserError if it is missing."""
    path = place(name, "parquet")
    path = path if path.exists() else path.with_suffix(".csv")
    sources.require([path], "scripts.analyze.tables writes it")
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


def _duplicates(study: Study) -> dict[str, int]:
    """Held-in documents by component that are not the first of their cluster."""
    if not any(corpus.deduplicated for corpus in study.file.data.corpora.values()):
        return {}
    removals = manifest.read(paths.CLUSTERS, ClustersFacts).facts.components
    return {name: removal.removed_documents for name, removal in removals.items()}


def _frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    return _sorted(pd.DataFrame(list(rows)))


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows sorted by everything that names a row, sizes from small to large."""
    keys = ["non_embedding", "corpus", "init_seed", "data_seed", "run", "step", "part", "task_set", "task", "metric"]
    keys += ["component", "chosen", "seen"]
    by = [key for key in keys if key in frame.columns]
    return frame.sort_values(by, kind="stable", ignore_index=True) if by else frame


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def made(study: Study) -> dict[str, pd.DataFrame]:
    """Every table by name, but for that of published scores, which come from elsewhere."""
    known = {EVALUATE: evals, MEMORIZE: memorization}
    asked = [stage for stage in OF_EVERY_RUN if stage.table in names(study)]
    frames = {stage.table: known[stage](study) if stage in known else of_stage(study, stage) for stage in asked}
    if study.trained:
        train, held = losses(study), held_out(study)
        frames |= {"losses": train, "held_out": held, "runs": runs(study, train, held), **all_tables(study)}
        frames["corpora"] = corpora(study)
    return frames


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    study = load(parser.parse_args().study)
    frames = made(study)
    for name, frame in frames.items():
        write(name, frame, parquet=name != "corpora")
    if study.file.evaluation.external:
        write("external", external_scores(study, study.file.evaluation.external))
    print(", ".join(f"{name}: {len(frame)} rows" for name, frame in frames.items()))
