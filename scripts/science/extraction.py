"""Probabilistic extraction: the fraction of sequences that n tries give with probability p, beside greedy decoding.

From the log-probabilities that memorization keeps of sampled sequences and canaries (memorization.log_probabilities).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from scripts.analyze import sources
from scripts.analyze.tables import IDENTITY, identity
from scripts.common.errors import UserError
from scripts.memorize.score import LOGS
from scripts.science.statistics.extraction import extractable, tries
from scripts.science.statistics.proportions import wilson
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.study import Study

TRIES = (1, 10, 100, 1000)
CHANCES = (0.1, 0.5, 0.9)
AT = dict(zip(LOGS, (1.0, 0.5), strict=True))  # columns, and their temperatures
GROUPS = ("seen", "unseen", "canary")
FRACTIONS = [*IDENTITY, "step", "group", "temperature", "n", "p", "sequences", "extractable", "fraction",
             "low", "high"]  # fmt: skip
GREEDY = [*IDENTITY, "step", "group", "temperature", "memorized", "sequences", "least", "median", "most",
          "median_tries", "extractable"]  # fmt: skip
BESIDE = (100, 0.5)  # n and p of the extraction that greedy decoding is compared with


def made(study: Study) -> dict[str, pd.DataFrame]:
    """Tables `extraction`, a fraction a row, and `extraction_greedy`, p_z of memorized sequences and of others."""
    fractions, greedy = [], []
    for spec, step, frame in probed(study):
        for group, part in groups(frame):
            for column, temperature in AT.items():
                row = {**identity(spec), "step": step, "group": group, "temperature": temperature}
                logs, flags = part[column].to_numpy(float), part["memorized"].to_numpy(bool)
                fractions += [row | of_tries(logs, n, p) for n in TRIES for p in CHANCES]
                greedy += [row | beside_greedy(logs[flags == kind], kind) for kind in (True, False)]
    return {
        "extraction": pd.DataFrame(fractions, columns=FRACTIONS),
        "extraction_greedy": pd.DataFrame(greedy, columns=GREEDY),
    }


def probed(study: Study) -> Iterator[tuple[Run, int, pd.DataFrame]]:
    """Every scored checkpoint's sequences with a log-probability; raises UserError where a file has none."""
    for spec in study.runs.values():
        for step in study.memorization_steps(spec.name):
            path = paths.memorization(spec.name, step)
            sources.require([path])
            frame = sources.scored_sequences(spec.name, step).to_pandas()
            if LOGS[0] not in frame:
                raise UserError(f"{path}: no column {LOGS[0]}; delete it to have the step scored again")
            yield spec, step, frame.dropna(subset=list(LOGS))


def groups(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Sampled sequences that were seen, those that were not, and canaries; where there are any."""
    canary = frame["chosen"] == "canary"
    for name, part in zip(GROUPS, (~canary & frame["seen"], ~canary & ~frame["seen"], canary), strict=True):
        if part.any():
            yield name, frame[part]


def of_tries(logs: np.ndarray, n: int, p: float) -> dict[str, Any]:
    """The fraction that n tries give with probability p, and Wilson's interval."""
    hits = int(extractable(logs, n, p).sum())
    low, high = wilson(hits, len(logs))
    return {"n": n, "p": p, "sequences": len(logs), "extractable": hits, "fraction": hits / len(logs), "low": low,
            "high": high}  # fmt: skip


def beside_greedy(logs: np.ndarray, memorized: bool) -> dict[str, Any]:
    """p_z of sequences that greedy decoding gives, or does not give; nothing but their number where there are none."""
    found: dict[str, Any] = {"memorized": memorized, "sequences": len(logs), "extractable": 0}
    if not len(logs):
        return found
    n, p = BESIDE
    p_z = np.exp(np.quantile(logs, [0, 0.5, 1]))
    return found | {
        "least": float(p_z[0]),
        "median": float(p_z[1]),
        "most": float(p_z[2]),
        "median_tries": float(np.median(tries(logs, p))),
        "extractable": int(extractable(logs, n, p).sum()),
    }
