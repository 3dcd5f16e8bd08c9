"""How far apart the predictions of seeds are: expected Kullback-Leibler divergence per token on fixed held-out text.

After Fehlauer, Mahowald and Pimentel (2025, arXiv 2509.26643), who see four phases: all alike at first, sharp
convergence, sharp divergence, slow reconvergence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.analyze import sources
from scripts.analyze.tables import tokens_at
from scripts.common import manifest
from scripts.science.measures import GROUP
from scripts.science.statistics.entropy import Sums
from scripts.science.statistics.resample import drawn, interval
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.seeds import groups
from scripts.study.study import Study

if TYPE_CHECKING:
    from scripts.memorize.model import Model

Array = NDArray[np.float64]
SEQUENCES, PREDICTIONS = 64, 1024  # at most, in all; evenly spread over the held-out text
COLUMNS = [*GROUP, "step", "tokens", "component", "seeds", "sequences", "predictions", "divergence", "low", "high",
           "before", "change", "change_low", "change_high", "entropy"]  # fmt: skip


def made(study: Study) -> dict[str, pd.DataFrame]:
    """`seed_divergence`: a row per size, corpus, step that all seeds saved, and component ("all" first).

    Intervals are of the text: bootstrap over sequences. `change` is that since step `before`, on the same sequences.
    """
    rows = [row for runs in groups(study).values() if len(runs) > 1 for row in _of_group(study, runs)]
    return {"seed_divergence": pd.DataFrame(rows, columns=COLUMNS).astype({"before": "Int64"})}


class Text:
    """The predictions that are compared: sequences int64 [n, seq], their places [places], components [n, places]."""

    def __init__(self, length: int) -> None:
        from scripts.train import held_out  # brings torch

        found = held_out.read(paths.HELD_OUT, length)
        chosen = np.unique(np.linspace(0, len(found.sequences) - 1, SEQUENCES).astype(int))
        self.places = np.unique(np.linspace(0, length - 1, PREDICTIONS // len(chosen)).astype(int))
        self.sequences = found.sequences[chosen][:, :-1]
        self.component = np.array([*found.names, "none"])[found.component[chosen][:, self.places]]


def _of_group(study: Study, runs: list[Run]) -> Iterator[dict[str, Any]]:
    text, before = Text(runs[0].training.sequence_length), None
    steps = sorted(set.intersection(*(set(study.steps(run.name)) for run in runs)))
    sources.require(paths.model(run.name, step) / manifest.NAME for run in runs for step in steps)
    for index, step in enumerate(steps):
        sums = _predictions(study, runs, step, text)
        divergence, entropy = (each.reshape(text.component.shape) for each in (sums.divergence(), sums.entropy()))
        for name in ["all", *sorted(set(text.component.flat) - {"none"})]:
            inside = text.component == name if name != "all" else np.ones_like(text.component, bool)
            row = {
                "non_embedding": runs[0].size.non_embedding_parameters,
                "size": runs[0].size.name,
                "corpus": runs[0].corpus,
                "step": step,
                "tokens": tokens_at(runs[0], step),
                "component": name,
                "seeds": len(runs),
                "sequences": int(inside.any(axis=1).sum()),
                "predictions": int(inside.sum()),
                **dict(zip(("divergence", "low", "high"), _mean(divergence, inside), strict=True)),
                "entropy": float(entropy[inside].mean()),
            }
            if before is not None:
                change = _mean(divergence - before, inside)
                row |= dict(zip(("change", "change_low", "change_high"), change, strict=True))
                row["before"] = steps[index - 1]
            yield row
        before = divergence


def _mean(values: Array, inside: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Mean over the predictions `inside` [sequences, places], with its interval: bootstrap over sequences."""
    held = inside.any(axis=1)
    sums, counts = (values * inside).sum(axis=1)[held], inside.sum(axis=1)[held]
    draws = drawn(len(counts))
    return float(sums.sum() / counts.sum()), *interval((draws @ sums) / (draws @ counts))


def _predictions(study: Study, runs: list[Run], step: int, text: Text) -> Sums:
    """Sums over the models of all seeds at a step: fp32, a sequence at a time, so that no batch is in the numbers."""
    import torch

    from scripts.memorize.model import Model

    device = study.file.runtime.device if torch.cuda.is_available() else "cpu"
    torch.use_deterministic_algorithms(mode=True)
    model, sums = None, None
    for run in runs:
        folder = paths.model(run.name, step)
        if model is None:
            model = Model.of_folder(folder, torch.float32, device)
        else:
            model.read(folder)
        logits = _logits(model, text)
        sums = sums or Sums.over(*logits.shape)
        sums.add(logits)
    assert sums is not None
    return sums


def _logits(model: Model, text: Text) -> NDArray[np.float32]:
    """[sequences x places, vocabulary]."""
    import torch

    with torch.inference_mode():
        places = torch.from_numpy(text.places)
        states = [model.network.states(row[None].to(model.device))[0, places] for row in text.sequences]
        found: NDArray[np.float32] = model.logits(torch.cat(states)).cpu().numpy()
    return found
