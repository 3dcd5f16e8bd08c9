"""Make the study's own lm-eval tasks in data/tasks/, from the held-out split and from templates."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import write_text
from scripts.data.streams import NAME as DOCUMENTS
from scripts.data.streams import Document, read_documents
from scripts.evaluate import agreement, arithmetic, passages, pronouns
from scripts.evaluate.names import (
    AGREEMENT,
    ARITHMETIC,
    CONTINUATION,
    LAST_WORD,
    OWN_TASKS,
    PERPLEXITY,
    PRONOUNS,
)
from scripts.study import fingerprints, paths
from scripts.study.config.data import Arithmetic
from scripts.study.manifests import CorpusFacts, TaskItems, TasksFacts
from scripts.study.study import load


def metric(name: str, aggregation: str, higher_is_better: bool) -> dict[str, Any]:
    """One entry of a task's metric_list."""
    return {"metric": name, "aggregation": aggregation, "higher_is_better": higher_is_better}


ACCURACY = metric("acc", "mean", True)

# What lm-eval reads, beside the data; names of a record's fields stand for their content.
SHAPES: dict[str, dict[str, Any]] = {
    LAST_WORD: {
        "output_type": "loglikelihood",
        "doc_to_text": "context",
        "doc_to_target": "target",
        "target_delimiter": "",  # the target begins with its space
        "fewshot_split": "test",  # the item itself is never among its examples
        "metric_list": [ACCURACY, metric("perplexity", "perplexity", False)],
        "metadata": {"version": passages.VERSION},
    },
    CONTINUATION: {
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "target_delimiter": "",
        "fewshot_split": "test",
        # acc_mutual_info scores a choice by what the context adds to it, log p(choice | context) / p(choice): small
        # models tell the choices apart by that long before the plain likelihood does.
        "metric_list": [ACCURACY, metric("acc_norm", "mean", True), metric("acc_mutual_info", "mean", True)],
        "metadata": {"version": passages.VERSION},
    },
    AGREEMENT: {
        "output_type": "multiple_choice",
        "doc_to_text": "",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "target_delimiter": "",
        "num_fewshot": 0,  # whole sentences are compared; examples would make no sense
        "metric_list": [ACCURACY],
        "metadata": {"version": agreement.VERSION},
    },
    PERPLEXITY: {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "num_fewshot": 0,
        "metric_list": [
            metric("word_perplexity", "weighted_perplexity", False),
            metric("byte_perplexity", "weighted_perplexity", False),
            metric("bits_per_byte", "bits_per_byte", False),
        ],
        "metadata": {"version": passages.VERSION},
    },
    PRONOUNS: {
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "target_delimiter": "",
        "num_fewshot": 0,  # examples would tell which occupations go with which pronoun
        "metric_list": [ACCURACY],
        "metadata": {"version": pronouns.VERSION},
    },
    ARITHMETIC: {
        "output_type": "loglikelihood",
        "doc_to_text": "context",
        "doc_to_target": "target",
        "target_delimiter": "",
        "fewshot_split": "test",
        "fewshot_delimiter": "\n",  # a problem a line, as it stands in the text
        "metric_list": [ACCURACY, metric("perplexity", "perplexity", False)],
        "metadata": {"version": arithmetic.VERSION},
    },
}


def make(
    documents: list[Document], items: int, seed: int, planted: Arithmetic | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The records of every own task; a task of text has none if the held-out split is too small for it. `planted`: the
    arithmetic of the text."""
    return {
        LAST_WORD: passages.last_word_items(documents, items, seed),
        CONTINUATION: passages.continuation_items(documents, items, seed),
        AGREEMENT: agreement.agreement_items(items, seed),
        PERPLEXITY: passages.perplexity_items(documents, items, seed),
        PRONOUNS: pronouns.pronoun_items(items, seed),
        ARITHMETIC: arithmetic.arithmetic_items(items, seed, planted),
    }


def config(name: str) -> dict[str, Any]:
    """The task's YAML content; its data file is named from the study's folder, like every path here."""
    data = {"test": (paths.TASKS / f"{name}.jsonl").as_posix()}
    shape = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": data}, "test_split": "test"}
    return {**shape, **SHAPES[name]}


def write(folder: Path, records: dict[str, list[dict[str, Any]]]) -> list[Path]:
    """Write <task>.yaml and <task>.jsonl of every task with records, remove those of others; returns the paths."""
    files: list[Path] = []
    for name in OWN_TASKS:
        paths = folder / f"{name}.jsonl", folder / f"{name}.yaml"
        if not records[name]:
            for path in paths:
                path.unlink(missing_ok=True)
            continue
        lines = [json.dumps(record, ensure_ascii=False, sort_keys=True) for record in records[name]]
        write_text(paths[0], "\n".join(lines) + "\n")
        write_text(paths[1], yaml.safe_dump(config(name), sort_keys=False, allow_unicode=True))
        files += paths
    return files


def composition(records: list[dict[str, Any]]) -> dict[str, int]:
    """How many items each component or phenomenon has."""
    counts = Counter(record.get("component") or record["phenomenon"] for record in records)
    return dict(sorted(counts.items()))


def main() -> None:
    parser = Parser(
        description="Make the study's own tasks in data/tasks/: lm-eval task files (.yaml) and their items (.jsonl). "
        f"{LAST_WORD}: the last word of a clause. {CONTINUATION}: which of four passages goes on a text. "
        f"{AGREEMENT}: which of two sentences is grammatical. {PERPLEXITY}: whole passages. "
        f"{PRONOUNS}: which of two occupations a pronoun means. "
        f"{ARITHMETIC}: the answer to a sum or product in words. "
        "Texts are held-out ones; numbers of items and the seed are evaluation.own_tasks."
    ).takes("study")
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    own = study.file.evaluation.own_tasks
    manifest.read(paths.HELD_OUT, CorpusFacts)
    fingerprints.require(study, paths.HELD_OUT)
    records = make(list(read_documents(paths.HELD_OUT / DOCUMENTS)), own.items, own.seed, study.arithmetic)
    asked = {task for tasks in study.file.evaluation.task_sets.values() for task in tasks.tasks}
    for name in OWN_TASKS:
        if name in asked and not records[name]:
            raise UserError(
                f"{name}: the held-out split ({paths.HELD_OUT}) is too small to make a single item of it\n"
                "  fix: a larger data.held_out_fraction, more text, or leave the task out of evaluation.task_sets"
            )
    manifest.write(
        paths.TASKS,
        TasksFacts({name: TaskItems(len(found), composition(found)) for name, found in records.items()}),
        subject={"tasks": [name for name in OWN_TASKS if records[name]]},
        settings=study.task_settings(),
        files=write(paths.TASKS, records),
        parents=[paths.HELD_OUT],
        started=started,
    )
    for name, found in records.items():
        few = "" if len(found) == own.items else f" ({own.items} asked; no more can be made)"
        print(f"{name}: {len(found)} items{few}")
