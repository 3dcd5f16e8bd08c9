"""What an exposure does to a sequence at once, and what stays: by run, cohort and time since, first and second apart.

The panel is the sample that memorization scores at every checkpoint, read or not. When each text was read is taken from
the order of training: every sequence that holds all of its scored tokens, wherever they stand in it, so repeated texts
and further epochs count. A suite has no text that is never trained on among its scored ones; controls are texts that
are read later.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.analyze.memorization.tables import Scored
from scripts.analyze.tables import IDENTITY, identity
from scripts.data.sequences import Sequences
from scripts.memorize.chosen import sequence_hashes, window_hashes
from scripts.memorize.score import LOGS
from scripts.science.statistics.panel import NEVER, Panel, profile
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.study import Study

DRAWS, SEED = 1000, 1234
EXPOSURES = ("first", "second")
BLOCK = 1 << 22  # tokens of the order looked at at a time
MEASURES = ("score", LOGS[0])  # fraction of right tokens under greedy decoding; nats of the whole continuation
CELLS = [*IDENTITY, "measure", "exposure", "cohort_after", "cohort_until", "step", "since", "kind", "treated",
         "controls", "effect", "low", "high"]  # fmt: skip
MEANS = [
    *IDENTITY,
    "measure",
    "exposure",
    "kind",
    "since_until",
    "cells",
    "treated",
    "effect",
    "low",
    "high",
    "texts",
    "exposed_twice",
]


def made(study: Study) -> dict[str, pd.DataFrame]:
    """Tables `profile`, a cohort at a step a row, and `profile_means`, over cohorts."""
    scored, told, means = Scored(study), [], []
    read: dict[tuple[str, int, int], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
    for spec in study.trained.values():
        steps = scored.steps(spec.name)
        if spec.origin is not None or len(steps) < 3:
            continue
        sample = scored.table(spec.name, steps[0]).query("chosen == 'sample'")
        indices = np.sort(sample["sample_index"].to_numpy(np.int64))
        key = (spec.corpus, spec.data_seed, spec.training.batch_size)
        if key not in read:
            order = Sequences.open(paths.corpus(spec.corpus), spec.data_seed, needed=spec.sequences)
            width = study.file.memorization.prompt + study.file.memorization.continuation
            read[key] = exposures(order, indices, width, spec.sequences, spec.training.batch_size)
        for measure, panel in panels(scored, spec, indices, *read[key]):
            size = {"texts": len(panel.values), "exposed_twice": int((panel.exposed[:, 1] < NEVER).sum())}
            for number, exposure in enumerate(EXPOSURES):
                row = {**identity(spec), "measure": measure, "exposure": exposure}
                of_cells, of_kinds = profile(panel, number, DRAWS, SEED)
                told += [row | cell for cell in of_cells]
                means += [row | kind | size for kind in of_kinds]
    return {"profile": pd.DataFrame(told, columns=CELLS), "profile_means": pd.DataFrame(means, columns=MEANS)}


def panels(
    scored: Scored, spec: Run, indices: NDArray[np.int64], read: NDArray[np.int64], texts: NDArray[np.int64]
) -> Iterator[tuple[str, Panel]]:
    """A panel of each measure that the results hold, of the texts that have a value at every step."""
    steps = scored.steps(spec.name)
    tables = [scored.table(spec.name, step).query("chosen == 'sample'").set_index("sample_index") for step in steps]
    for measure in MEASURES:
        if all(measure in table for table in tables):
            values = np.stack([table.loc[indices, measure].to_numpy(np.float64) for table in tables], axis=1)
            panel = Panel(np.array(steps), values, read, texts)
            known = np.isfinite(values).all(1)
            if known.any():
                yield measure, panel.picked(known)


def exposures(
    order: Sequences, indices: NDArray[np.int64], width: int, total: int, batch: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the texts that sequences begin with: the steps that read them, and a number that equal texts share.

    int64 [texts, 3], the first three, filled up with NEVER: a step reads a text if a sequence of its batch holds its
    tokens whole. The whole order is read through.
    """
    texts = sequence_hashes(order.at(indices)[:, :width])
    asked, which = np.unique(texts, return_inverse=True)
    length, found = order.sequence_length + 1, []
    rows = max(1, BLOCK // length)
    for begin in range(0, total, rows):
        tokens = order.sequences(begin, min(begin + rows, total))
        windows = window_hashes(tokens.reshape(-1), width)
        at = np.minimum(np.searchsorted(asked, windows), len(asked) - 1)
        hit = np.flatnonzero(asked[at] == windows)
        hit = hit[hit % length <= length - width]  # not across two sequences
        found.append(np.stack([at[hit], (begin + hit // length) // batch + 1]))
    text, step = np.unique(np.concatenate(found, axis=1), axis=1)  # once a step
    nth = np.arange(len(text)) - np.searchsorted(text, text)
    first = np.full((len(asked), len(EXPOSURES) + 1), NEVER)
    kept = nth < first.shape[1]
    first[text[kept], nth[kept]] = step[kept]
    return first[which], which.astype(np.int64)
