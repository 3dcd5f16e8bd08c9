"""Kinds of memorized text: recited, reconstructed, recollected; what makes each likelier to be memorized; examples.

Of sequences that a checkpoint has seen: all of the order, or the sample where not all were scored; canaries apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from tokenizers import Tokenizer

from scripts.analyze.memorization.tables import Scored
from scripts.analyze.tables import IDENTITY, identity
from scripts.data.changes import change_of
from scripts.data.sequences import Sequences
from scripts.memorize.chosen import sequence_hashes
from scripts.science.statistics import logistic
from scripts.science.statistics.proportions import wilson
from scripts.science.statistics.templates import KINDS, huffman_bits, increments, kinds, period, zlib_ratio
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.study import Study

COUNTED = 1 << 26  # tokens of the corpus, its first, that frequencies are counted in
EXAMPLES = 2  # of each kind and checkpoint
FEATURES = ["log_count", "token_frequency", "zlib_ratio", "huffman_bits"]
FRACTIONS = [*IDENTITY, "step", "kind", "sequences", "memorized", "of_memorized", "texts", "memorized_texts",
             "fraction", "low", "high"]  # fmt: skip
MODEL = [*IDENTITY, "step", "kind", "term", "sequences", "memorized", "estimate", "low", "high"]
TEXT = [*IDENTITY, "step", "kind", "sample_index", "count", "since", "prompt", "continuation"]


def made(study: Study) -> dict[str, pd.DataFrame]:
    """Tables `kinds` (fractions by step), `kinds_model` (last step) and `memorized_text` (of each size's first run)."""
    scored, fractions, models, texts = Scored(study), [], [], []
    kept: dict[tuple[Any, ...], pd.DataFrame] = {}
    shown: set[str] = set()
    for spec in study.runs.values():
        if not (steps := scored.steps(spec.name)):
            continue
        key = (spec.corpus, spec.data_seed, spec.origin)
        if key not in kept:
            kept[key] = described(study, spec, scored.fair(spec.name, steps[-1]))
        tables = {step: kept[key].join(scored.fair(spec.name, step)[["memorized"]], how="inner") for step in steps}
        for step, table in tables.items():
            fractions += [{**identity(spec), "step": step, **row} for row in of_kinds(table)]
        models += [{**identity(spec), "step": steps[-1], **row} for row in of_features(tables[steps[-1]])]
        if spec.size.name not in shown and spec.origin is None:
            shown.add(spec.size.name)
            texts += [{**identity(spec), **row} for row in examples(tables)]
    return {
        "kinds": pd.DataFrame(fractions, columns=FRACTIONS),
        "kinds_model": pd.DataFrame(models, columns=MODEL),
        "memorized_text": pd.DataFrame(texts, columns=TEXT),
    }


def described(study: Study, spec: Run, seen: pd.DataFrame) -> pd.DataFrame:
    """Features of sequences by sample index, their kind and text."""
    asked = study.file.memorization
    order = Sequences.open(paths.corpus(spec.corpus), spec.data_seed, change_of(spec), spec.sequences)
    indices = seen.index.to_numpy(np.int64)
    tokens = order.at(indices)[:, : asked.prompt + asked.continuation]
    told = Tokenizer.from_file(str(paths.VOCABULARY))
    counts = np.bincount(order.tokens.flat[:COUNTED], minlength=int(tokens.max(initial=0)) + 1)
    frame = pd.DataFrame(
        {
            "count": seen["count"],
            "text": sequence_hashes(tokens),
            "prompt": told.decode_batch(tokens[:, : asked.prompt].tolist(), skip_special_tokens=False),
            "continuation": told.decode_batch(tokens[:, asked.prompt :].tolist(), skip_special_tokens=False),
            "token_frequency": np.log10(np.maximum(counts[tokens[:, asked.prompt :]], 1)).mean(axis=1),
            "huffman_bits": [huffman_bits(row) for row in tokens],
            "repeats": [period(row) > 0 for row in tokens],
        },
        index=seen.index,
    )
    whole = frame["prompt"] + frame["continuation"]
    flags = np.array([increments(text) for text in whole], dtype=bool)
    return frame.assign(
        log_count=np.log2(frame["count"]),
        zlib_ratio=[zlib_ratio(text) for text in whole],
        increments=flags,
        kind=kinds(frame["count"].to_numpy(), frame["repeats"].to_numpy(bool), flags),
    )


def of_kinds(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Of each kind its part of the memorized sequences, and the fraction memorized of its distinct texts, with Wilson's
    interval: sequences of one text are memorized all or none."""
    every, rows = int(table["memorized"].sum()), []
    for kind in KINDS:
        part = table[table["kind"] == kind]
        flags = part.drop_duplicates("text")["memorized"]
        memorized, hits, texts = int(part["memorized"].sum()), int(flags.sum()), len(flags)
        low, high = wilson(hits, texts)
        rows.append({"kind": kind, "sequences": len(part), "memorized": memorized,
                     "of_memorized": memorized / every if every else np.nan, "texts": texts, "memorized_texts": hits,
                     "fraction": hits / texts if texts else np.nan, "low": low, "high": high})  # fmt: skip
    return rows


def of_features(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Logistic regression of being memorized on the features, of all sequences and of each kind."""
    rows = []
    for kind in ("all", *KINDS):
        part = table if kind == "all" else table[table["kind"] == kind]
        flags = part["memorized"].to_numpy(bool)
        fitted = logistic.fitted(part[FEATURES], flags, part["text"].to_numpy())
        about = {"kind": kind, "sequences": len(part), "memorized": int(flags.sum())}
        rows += [about | term for term in fitted]
    return rows


def examples(tables: dict[int, pd.DataFrame]) -> list[dict[str, Any]]:
    """Memorized texts of each step and kind, each text once, the rarest in the corpus first; `since`: the first step
    that has it memorized."""
    since: dict[int, int] = {}
    for step, table in tables.items():
        for text in table.loc[table["memorized"], "text"]:
            since.setdefault(text, step)
    rows = []
    for step, table in tables.items():
        found = table[table["memorized"]].reset_index().sort_values(["count", "sample_index"]).drop_duplicates("text")
        for kind in KINDS:
            for row in found[found["kind"] == kind].head(EXAMPLES).to_dict("records"):
                rows.append({name: row[name] for name in ("kind", "sample_index", "count", "prompt", "continuation")}
                            | {"step": step, "since": since[row["text"]]})  # fmt: skip
    return rows
