"""Texts and what was measured on them: corpora hold the documents that the split rule gives them, and no saved step's
held-out loss is missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scripts.audit.integrity.found import Folder
from scripts.audit.provenance.artefacts import corpora_read
from scripts.audit.verdict import Check, judged
from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.untrusted import read_json_lines, read_parquet, reading
from scripts.study import paths
from scripts.study.fingerprints import run_settings
from scripts.study.manifests import CorpusFacts, DocumentsFacts
from scripts.study.study import HELD_OUT, Study

MOST = 5_000_000  # documents whose split is made again: their columns are all in memory at once
SPACE = 32  # characters of a text that a tokenizer may make no token of
LINE = 1 << 14  # bytes of a line of held_out.jsonl, on average
ROUNDED = 2e-6  # between a loss and the mean of its parts, all of six digits
DESCRIBED = {"id": "text", "component": "text", "characters": "whole"}
CLUSTERED = {"cluster": "text", "first": "truth", "held_out": "truth"}
TOKENIZED = {"id": "text", "component": "text", "tokens": "whole"}


def check_texts(study: Study, folder: Folder) -> Check:
    """Each corpus, and the held-out split, holds the documents that the split rule gives it, in their order."""
    what = "Corpora and the held-out split hold the documents that the split rule gives them"
    blocks = study.blocks()
    there = [found for block in blocks if (found := folder.at(block.folder, DocumentsFacts))]
    if not there:
        return Check("texts", what, "not applicable", ("no text is here",))
    count = sum(found.content.facts.documents for found in there)
    if count > MOST:
        return Check("texts", what, "not applicable", (f"{count:,} documents, more than the {MOST:,} looked at here",))
    with reading(paths.DOCUMENTS):
        described = pa.concat_tables(_block(block.folder / "documents.parquet", DESCRIBED) for block in blocks)
    faults = [*_unlike_split(study, described)]
    own = [name for name in corpora_read(study) if study.file.data.corpora[name].components]
    characters = dict(zip(described["id"].to_pylist(), described["characters"].to_pylist(), strict=True))
    for name in (HELD_OUT, *own):
        if corpus := folder.at(paths.corpus(name), CorpusFacts):  # missing is told by `complete`
            faults += _unlike_corpus(study, name, corpus.content.facts, characters)
    return judged("texts", what, faults, f"{count:,} documents; held-out and {len(own)} corpora")


def _block(path: Path, columns: dict[str, str]) -> pa.Table:
    return read_parquet(path, columns, MOST).select(list(columns))


def _unlike_split(study: Study, described: pa.Table) -> Iterator[str]:
    """The clusters' tables against the rule of `assign`, taking for granted which documents are near-duplicates."""
    from scripts.data.dedup import clusters
    from scripts.data.dedup.assign import Documents, assign
    from scripts.data.tables import ids_to_numbers

    blocks, components = study.blocks(), study.file.data.components
    with reading(paths.CLUSTERS):
        tables = [_block(clusters.table_of(block), CLUSTERED) for block in blocks]
        clustered, lengths = pa.concat_tables(tables), [len(table) for table in tables]
    if len(clustered) != len(described):
        yield f"{paths.CLUSTERS}: {len(clustered):,} documents, data/documents holds {len(described):,}"
        return
    with reading(paths.CLUSTERS):
        cluster, names = ids_to_numbers(clustered["cluster"]), sorted(described["component"].unique().to_pylist())
        reserved, planted = (
            np.repeat([bool(getattr(components[block.source], key)) for block in blocks], lengths)
            for key in ("held_out", "planted")
        )
        codes = pc.index_in(described["component"], pa.array(names, pa.large_string()))
        made = assign(
            Documents(
                ids=ids_to_numbers(described["id"]),
                near=np.unique(cluster, return_inverse=True)[1],
                component=codes.to_numpy().astype(np.int32),
                names=names,
                characters=described["characters"].to_numpy(),
                reserved=reserved,
                planted=planted,
            ),
            study.file.data.held_out_fraction,
        )
        told = {"cluster": cluster, **{key: clustered[key].to_numpy() for key in ("first", "held_out")}}
    for key, column in told.items():
        if other := int((column != getattr(made, key)).sum()):
            yield f"{paths.CLUSTERS}: `{key}` of {other:,} documents is not what the split rule gives"


def _unlike_corpus(study: Study, name: str, facts: CorpusFacts, characters: dict[str, int]) -> list[str]:
    """Sentences on a corpus whose documents, their table, its tokens' index or its manifest's counts disagree."""
    from scripts.data.megatron.indexed import open_tokens
    from scripts.data.tokenize import corpus_settings, select

    settings, home = corpus_settings(study, name), paths.corpus(name)
    try:
        with reading(home):
            table = read_parquet(home / "documents.parquet", TOKENIZED, MOST)
            sizes = open_tokens(home / "tokens", thorough=True).sizes
            asked = [
                identity
                for block in study.blocks(settings["components"])
                for identity in _block(block.folder / "documents.parquet", {"id": "text"})["id"]
                .filter(pa.array(select(study, settings, block)))
                .to_pylist()
            ]
            faults = [*_other_documents(home, asked, table["id"].to_pylist(), characters)]
            if name == HELD_OUT:
                faults += _other_texts(home, table, characters)
    except UserError as error:
        return [str(error)]
    if not np.array_equal(sizes, table["tokens"].to_numpy()):
        faults.append(f"{home}/documents.parquet: other documents than those of tokens.idx")
    by_component = table.group_by("component").aggregate([("tokens", "count"), ("tokens", "sum")]).to_pylist()
    counted = {
        "documents": len(table),
        "documents_without_tokens": len(asked) - len(table),
        "tokens": int(sizes.sum(dtype=np.int64)),
        "components": {
            row["component"]: {"documents": row["tokens_count"], "tokens": row["tokens_sum"]} for row in by_component
        },
    }
    told = asdict(facts)
    lines = manifest.differing({key: told[key] for key in counted}, counted)
    return faults + [f"{home}/{manifest.NAME}: {line.replace('asked', 'counted')}" for line in lines]


def _other_documents(home: Path, asked: list[str], found: list[str], characters: dict[str, int]) -> Iterator[str]:
    """Documents of the split rule that a corpus lacks, and those it has beyond them; short ones may have no token."""
    if asked == found:
        return
    lacking, beyond = Counter(asked) - Counter(found), Counter(found) - Counter(asked)
    yield from (
        f"{home}: lacks the document {identity}" for identity in lacking if characters.get(identity, 0) >= SPACE
    )
    yield from (f"{home}: holds the document {identity}, which is not its own" for identity in beyond)
    kept = iter(asked)
    if not beyond and not all(identity in kept for identity in found):  # a subsequence
        yield f"{home}: its documents are not in the order of data/documents"


def _other_texts(home: Path, table: pa.Table, characters: dict[str, int]) -> Iterator[str]:
    """The first held-out text that is not the one its id is made of, or not the one of the table."""
    from scripts.data.streams import NAME, document_id, read_documents

    ids, count = table["id"].to_pylist(), 0
    for count, document in enumerate(islice(read_documents(home / NAME), len(ids) + 1), start=1):
        right = count <= len(ids) and document.id == ids[count - 1]
        if not right or len(document.text) != characters.get(document.id) or document_id(document.text) != document.id:
            yield f"{home / NAME}: document {count} is not that of documents.parquet"
            return
    if count != len(ids):
        yield f"{home / NAME}: {count} documents, documents.parquet has {len(ids)}"


def check_held_out(study: Study) -> Check:
    """held_out.jsonl of each run holds every saved step once, and losses of kinds of text that make up the whole's."""
    faults, count = [], 0
    for name, run in study.trained.items():
        path = paths.checkpoints(name) / paths.HELD_OUT_LOSSES
        steps = run_settings(study, name)["steps"]
        try:
            fractions = _fractions(run.training.sequence_length)
            with reading(path):
                lines = read_json_lines(path, LINE * (len(steps) + 1))
                if [line["step"] for line in lines] != steps:
                    odd = sorted({line["step"] for line in lines} ^ set(steps)) or ["their order"]
                    faults.append(f"{path}: not the {len(steps)} saved steps, once each; differing: {odd[0]}")
                faults += [
                    f"{path}: step {line['step']}: {fault}" for line in lines for fault in _uneven(line, fractions)
                ]
        except UserError as error:
            faults.append(str(error))
        count += len(steps)
    what = "The held-out loss of every saved step is there, and is the mean of those of its kinds of text"
    return judged("held_out", what, faults, f"{count:,} steps of {len(study.trained)} runs")


def _fractions(sequence_length: int) -> dict[str, float]:
    """The fraction of the held-out targets by component, of whole sequences (scripts/train/held_out.py)."""
    table = read_parquet(paths.HELD_OUT / "documents.parquet", TOKENIZED)
    ends = np.cumsum(table["tokens"].to_numpy().astype(np.int64))
    last = (int(ends[-1]) - 1) // sequence_length * sequence_length  # the targets are tokens 1 to this one
    begins = np.concatenate([[0], ends[:-1]])
    targets = np.clip(np.minimum(ends, last + 1) - np.maximum(begins, 1), 0, None)
    found = Counter[str]()
    for name, number in zip(table["component"].to_pylist(), targets.tolist(), strict=True):
        found[name] += number
    return {name: number / last for name, number in found.items() if number}


def _uneven(line: dict[str, Any], fractions: dict[str, float]) -> Iterator[str]:
    parts = line["components"]
    if set(parts) != set(fractions):
        yield f"losses of {', '.join(sorted(parts))}; the held-out text is of {', '.join(sorted(fractions))}"
    elif not math.isclose(mean := sum(fractions[key] * parts[key] for key in fractions), line["loss"], abs_tol=ROUNDED):
        yield f"the loss is {line['loss']}, its kinds of text make {mean:.6f}"
