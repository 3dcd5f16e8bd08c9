"""The requests of a task set: built and tokenized once, for all steps of all runs that share a tokenizer.

They are kept in data/requests/<key>.parquet. The key is a hash of all they follow from: the tokenizer, lm-eval's
version, the tasks with their configuration, their documents, the files of a user's folder and the number of examples.
So a file is never out of date, may be deleted at any time, and two jobs that write it at once write the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.task import Task

from scripts.common.errors import UserError
from scripts.common.files import atomic, digest_of
from scripts.study import paths

FORMAT = 1  # of the file: raise it when its columns or their meaning change
SCHEMA = pa.schema(
    [
        ("task", pa.string()),  # name in the task set, not that of its file
        ("item", pa.int32()),  # lm-eval's doc_id: line of the evaluated split
        ("index", pa.int16()),  # of the request within its item, e.g. the choice
        ("kind", pa.string()),  # loglikelihood, loglikelihood_rolling, generate_until
        ("arguments", pa.string()),  # JSON list: [context, target], [text], or [context, {generation options}]
        ("first", pa.list_(pa.int32())),  # token ids of the context, or of the rolling text
        ("second", pa.list_(pa.int32())),  # token ids of the target
    ]
)


@dataclass(frozen=True)
class Encoded:
    """Token ids by what was tokenized; int32 arrays, because lists of a large task set would take gigabytes."""

    pairs: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
    texts: dict[str, np.ndarray]


def key_of(
    tasks: dict[str, Task], tokenizer: str, version: str, few_shot_seed: int, files: dict[str, str] | None = None
) -> str:
    """Hex digest of all that requests follow from; `tokenizer` is the sha256 of tokenizer.json.

    `files` are those of a user's folder, {path: sha256}: a function in a task's configuration may call others.
    """
    content = {name: _content(task) for name, task in tasks.items()}
    subject = {"format": FORMAT, "tokenizer": tokenizer, "lm_eval": version, "seed": few_shot_seed, "tasks": content}
    return digest_of(subject | ({"files": files} if files else {}))[:32]


def _content(task: Any) -> str:
    """Hex digest of a task's configuration and of the documents it evaluates and draws examples from."""
    digest = hashlib.sha256(_plain(task.dump_config()))
    for document in task.eval_docs:
        digest.update(_plain(document))
    if task.config.num_fewshot:
        for document in task.fewshot_docs():
            digest.update(_plain(document))
    return digest.hexdigest()


def _plain(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=_named).encode() + b"\n"


def _named(value: Any) -> str:
    """Stands for what JSON has no word for; a function's address would differ from process to process."""
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def prepare(scorer: Any, tasks: dict[str, Task], key: str) -> bool:
    """Give the tasks their requests and the scorer their tokens; returns whether they came out of the file."""
    path = paths.REQUESTS / f"{key}.parquet"
    there = _read(path) if path.exists() else None
    if there is None:
        for name, task in tasks.items():
            _build(name, task)
        scorer.encoded = _encode(scorer, tasks)
        _write(path, tasks, scorer.encoded)
    else:
        _restore(tasks, there)
        scorer.encoded = _tokens(there)
    return there is not None


def _build(name: str, task: Task) -> None:
    try:
        task.build_all_requests()
    except TemplateError as error:
        raise UserError(f"{name}: a template can't be filled from a document: {error}") from None


def _encode(scorer: Any, tasks: dict[str, Task]) -> Encoded:
    """Tokens of all requests that are scored rather than generated."""
    pairs: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
    texts: dict[str, np.ndarray] = {}
    for instance in (i for task in tasks.values() for i in task.instances):
        if instance.request_type == "loglikelihood" and instance.args not in pairs:
            first, second = scorer.tokenized_pair(*instance.args)
            pairs[instance.args] = np.array(first, np.int32), np.array(second, np.int32)
        elif instance.request_type == "loglikelihood_rolling":
            texts[instance.args[0]] = np.array(scorer.tok_encode(instance.args[0]), np.int32)
    return Encoded(pairs, texts)


def _write(path: Path, tasks: dict[str, Task], encoded: Encoded) -> None:
    """Write the file; nothing where a request holds more than text (pictures)."""
    try:
        rows = list(_rows(tasks, encoded))
    except TypeError:
        return
    with atomic(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary, compression="zstd")


def _rows(tasks: dict[str, Task], encoded: Encoded) -> Iterator[dict[str, Any]]:
    for name, task in tasks.items():
        for instance in task.instances:
            first = second = None
            if instance.request_type == "loglikelihood":
                first, second = encoded.pairs[instance.args]
            elif instance.request_type == "loglikelihood_rolling":
                first = encoded.texts[instance.args[0]]
            yield {
                "task": name,
                "item": instance.doc_id,
                "index": instance.idx,
                "kind": instance.request_type,
                "arguments": json.dumps(instance.args, ensure_ascii=False),
                "first": first,
                "second": second,
            }


def _read(path: Path) -> list[dict[str, Any]] | None:
    """The file's rows; None if it is damaged, then it is made again."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        return None
    return _plain_rows(table) if table.schema.equals(SCHEMA) else None


def _plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """As to_pylist, but token ids as arrays."""
    names = [name for name in table.column_names if name not in ("first", "second")]
    columns = {name: table[name].to_pylist() for name in names}
    ids = {
        name: [each.values.to_numpy() if each.is_valid else None for each in table[name]]
        for name in ("first", "second")
    }
    return [dict(zip([*names, *ids], row, strict=True)) for row in zip(*columns.values(), *ids.values(), strict=True)]


def _restore(tasks: dict[str, Task], rows: list[dict[str, Any]]) -> None:
    """Make the tasks' requests of the rows."""
    by_task: dict[str, list[dict[str, Any]]] = {name: [] for name in tasks}
    for row in rows:
        by_task[row["task"]].append(row)
    for name, task in tasks.items():
        documents = dict(task.doc_iterator(rank=0, limit=None, world_size=1))
        named, repeats = task.config["task"], task.config.repeats
        task._instances = [  # what task.instances shows; lm-eval 0.4.13 has no other way to give a task its requests
            Instance(
                request_type=row["kind"],
                doc=documents[row["item"]],
                arguments=tuple(json.loads(row["arguments"])),
                idx=row["index"],
                metadata=(named, row["item"], repeats),
            )
            for row in by_task[name]
        ]


def _tokens(rows: list[dict[str, Any]]) -> Encoded:
    pairs: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}
    texts: dict[str, np.ndarray] = {}
    for row in rows:
        if row["kind"] == "loglikelihood":
            context, target = json.loads(row["arguments"])
            pairs[(context, target)] = row["first"], row["second"]
        elif row["kind"] == "loglikelihood_rolling":
            texts[json.loads(row["arguments"])[0]] = row["first"]
    return Encoded(pairs, texts)
