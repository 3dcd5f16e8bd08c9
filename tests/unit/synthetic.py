"""Results of a study as the stages would leave them, made from formulas: known answers for tables and findings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scripts.common import manifest
from scripts.common.files import write_json
from scripts.common.manifest import ManifestFacts
from scripts.study import paths
from scripts.study.manifests import ClustersFacts, CorpusFacts, Removal, RunFacts, TextSize
from scripts.study.runs import Run
from scripts.study.study import Study


def falling(spec: Run) -> float:
    """Final held-out loss that falls with size, and moves a little with the seed and the corpus."""
    return 9.0 - 0.4 * math.log(spec.size.non_embedding_parameters) + 0.01 * (spec.init_seed == 1)


def growing(spec: Run) -> float:
    """Memorized fraction of the sample at the end: grows with size, halved by deduplication."""
    fraction = 0.02 * math.log2(spec.size.non_embedding_parameters / 10_000)
    return fraction / 2 if spec.corpus == "deduped" else fraction


def above_chance(spec: Run, task: str) -> float:
    """Final accuracy: agreement is learned, the more the larger; continuation stays at chance."""
    known = {"castalia_agreement": 0.5 + 0.03 * math.log2(spec.size.non_embedding_parameters / 10_000)}
    return known.get(task, 0.25)


ITEMS = 400  # of each task
SINES = sum(math.sin(item) for item in range(ITEMS)) / ITEMS


@dataclass(frozen=True)
class Truth:
    """The answers planted in the results."""

    final_loss: Callable[[Run], float] = falling
    memorized: Callable[[Run], float] = growing
    accuracy: Callable[[Run, str], float] = above_chance


def make(study: Study, truth: Truth | None = None) -> None:
    """Write every input of scripts.analyze.tables below the working directory."""
    truth = truth or Truth()
    _corpora(study)
    evaluations(study, truth)
    for spec in study.runs.values():
        _training(study, spec, truth)
        for step in study.memorization_steps(spec.name):
            _memorization(study, spec, step, truth)


def evaluations(study: Study, truth: Truth) -> None:
    """Write scores and samples alone."""
    for spec in study.runs.values():
        for step in study.evaluation_steps(spec.name):
            for name, chosen in study.file.evaluation.task_sets.items():
                _scores(spec, name, chosen.tasks, step, truth)


def learned(spec: Run, step: int) -> float:
    """Fraction of the way from start to end after `step` steps; none after the first, whose learning rate is 0."""
    return math.log1p(max(0, step - 1)) / math.log1p(max(1, spec.training.steps - 1))


def loss_at(study: Study, spec: Run, step: int, truth: Truth) -> float:
    """Held-out loss from ln(vocabulary) + 1/5 (small-init logits) to the planted end."""
    start = math.log(study.padded_vocabulary(spec.name)) + 0.2
    return round(start + (truth.final_loss(spec) - start) * learned(spec, step), 6)


def _training(study: Study, spec: Run, truth: Truth) -> None:
    folder = Path("checkpoints") / spec.name
    folder.mkdir(parents=True, exist_ok=True)
    steps = spec.training.steps
    metrics = [
        {
            "step": step,
            "loss": round(loss_at(study, spec, step, truth) + 0.1 * math.sin(7 * step), 6),
            "learning_rate": spec.peak * (step > 1),
            "gradient_norm": 0.5,
            "applied": 1,
            "sequences": "0" * 16,
        }
        for step in range(1, steps + 1)
    ]
    held_out = []
    for step in study.steps(spec.name):
        loss = loss_at(study, spec, step, truth)
        names = sorted(study.file.data.components)
        parts = {name: round(loss + 0.05 * (i - (len(names) - 1) / 2), 6) for i, name in enumerate(names)}
        held_out.append({"step": step, "loss": loss, "components": parts})
    _lines(folder / "metrics.jsonl", metrics)
    _lines(folder / "held_out.jsonl", held_out)
    _manifest(folder, RunFacts())


def _scores(spec: Run, task_set: str, tasks: list[str], step: int, truth: Truth) -> None:
    items, way = ITEMS, learned(spec, step)
    results: dict[str, dict[str, Any]] = {}
    samples: list[tuple[str, int, str, float]] = []
    for task in tasks:
        if task == "castalia_perplexity":
            bits = 8 - way * (8 - truth.final_loss(spec))
            results[task] = {"bits_per_byte,none": bits, "bits_per_byte_stderr,none": "N/A"}
            samples += passages(task, bits)
            continue
        chance = {"castalia_agreement": 0.5, "castalia_continuation": 0.25}.get(task, 0.0)
        value = chance + (truth.accuracy(spec, task) - chance) * way
        stderr = math.sqrt(value * (1 - value) / items)
        results[task] = {"alias": task, "acc,none": value, "acc_stderr,none": stderr}
        samples += answers(task, value)
    content = {
        "run": spec.name, "step": step, "task_set": task_set, "shots": 0, "model": "0" * 64,
        "results": results, "n": dict.fromkeys(tasks, items), "versions": {},
    }  # fmt: skip
    path = Path("results/evals") / spec.name / task_set / f"step{step}.json"
    write_json(path, content)
    columns = dict(zip(("task", "item", "metric", "value"), zip(*samples, strict=True), strict=True))
    pq.write_table(pa.table(columns), path.with_suffix(".samples.parquet"))


Sample = tuple[str, int, str, float]


def passages(task: str, bits: float) -> list[Sample]:
    """Items of a rolling task: passages of 100 bytes, some harder, that cost `bits` a byte in the mean."""
    return [
        sample
        for item in range(ITEMS)
        for sample in (
            (task, item, "bytes,none", 100.0),
            (task, item, "loglikelihood,none", -100 * math.log(2) * (bits + math.sin(item) - SINES)),
        )
    ]


def answers(task: str, value: float) -> list[Sample]:
    """Items of a task with answers, of which a fraction `value` is right, the easiest ones first; what the right answer
    is likelier by than the other (or, of the last word, how likely it is) goes with that."""
    found = []
    for item in range(ITEMS):
        margin = value - (item + 0.5) / ITEMS
        found.append((task, item, "acc,none", float(margin > 0)))
        if "last_word" in task:
            found.append((task, item, "perplexity,none", -8.0 + margin))
            continue
        for choice, score in enumerate((-20.0 + margin, -20.0)):
            found += [(task, item, f"loglikelihood_{choice},none", score), (task, item, f"bytes_{choice},none", 20.0)]
        found.append((task, item, "label,none", 0.0))
    return found


def _memorization(study: Study, spec: Run, step: int, truth: Truth) -> None:
    asked, total = study.file.memorization, spec.sequences
    indices = [total * i // asked.sample_sequences for i in range(asked.sample_sequences)]
    indices += [total * i // asked.repeated_sequences for i in range(asked.repeated_sequences)]
    kinds = ["sample"] * asked.sample_sequences + ["repeated"] * asked.repeated_sequences
    fraction = truth.memorized(spec) * learned(spec, step)
    by_kind = {"sample": fraction, "repeated": min(1.0, 4 * fraction)}
    index = [*range(asked.sample_sequences), *range(asked.repeated_sequences)]
    # i-th row of a kind is memorized if the fraction's running total passes a whole number there
    memorized = [
        math.floor((i + 1) * by_kind[kind]) > math.floor(i * by_kind[kind])
        for kind, i in zip(kinds, index, strict=True)
    ]
    seen_from = [index // spec.training.batch_size + 1 for index in indices]
    columns = {
        "sample_index": indices,
        "step_seen": seen_from,
        "seen": [first <= step for first in seen_from],
        "chosen": kinds,
        "count": [1 if kind == "sample" else 9 for kind in kinds],
        "copies": [0] * len(indices),
        "component": [sorted(study.file.data.components)[0]] * len(indices),
        "first_miss": pa.array(
            [asked.continuation if hit else asked.continuation // 4 for hit in memorized], pa.int16()
        ),
        "score": [1.0 if hit else 0.25 for hit in memorized],
        "memorized": memorized,
    }
    path = Path("results/memorization") / spec.name / f"step{step}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def _corpora(study: Study) -> None:
    """Forty documents of a thousand tokens per component; every fourth is a near-duplicate."""
    removals = {name: Removal(40, 0, 30, 10, 10, 0, 40, 30, 0.25) for name in study.file.data.components}
    _manifest(paths.CLUSTERS, ClustersFacts(5, 12, removals, 0.25))
    for name, corpus in study.file.data.corpora.items():
        documents = 30 if corpus.deduplicated else 40
        counts = {part: TextSize(documents, 1000 * documents) for part in corpus.components}
        _manifest(paths.corpus(name), CorpusFacts(documents, 1000 * documents, 0, 0, 0, counts, None))


def _manifest(folder: Path, facts: ManifestFacts) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest.write(folder, facts, subject={}, settings={}, files=sorted(folder.glob("*.jsonl")))


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
