"""How alike the inside of models is: between the steps of a run, between seeds and between sizes, layer by layer.

On fixed held-out text, the states after each block at the same tokens, compared by CKA and PWCCA.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scripts.analyze import sources
from scripts.common import manifest
from scripts.science.divergence import Text
from scripts.science.statistics.similarity import Array, cka, pwcca
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.sampling import evenly
from scripts.study.seeds import groups
from scripts.study.study import Study

if TYPE_CHECKING:
    from scripts.memorize.model import Model

STEPS = 8  # of a run, at most; the last always
SEEDS = 3  # of a size, at most
COLUMNS = ["comparison", "corpus", "run", "size", "step", "layer", "other_run", "other_size", "other_step",
           "other_layer", "predictions", "cka", "pwcca"]  # fmt: skip


def made(study: Study) -> dict[str, pd.DataFrame]:
    """`similarity`: a row per pair of layers that is compared.

    Of each corpus: the first seed of each size at its steps with its own last ("step", same layer), the last steps of
    its seeds ("seed", same layer), and of the sizes next to each other ("size", every layer with every other).
    """
    rows = []
    for corpus in dict.fromkeys(corpus for _, corpus in groups(study)):
        sizes = [runs[:SEEDS] for (_, mine), runs in groups(study).items() if mine == corpus]
        rows += list(_of_corpus(study, corpus, sizes))
    return {"similarity": pd.DataFrame(rows, columns=COLUMNS)}


def _of_corpus(study: Study, corpus: str, sizes: list[list[Run]]) -> Iterator[dict[str, Any]]:
    texts: dict[int, Text] = {}
    smaller: tuple[Run, list[Array]] | None = None
    for first, *others in sizes:
        length = first.training.sequence_length
        text = texts.setdefault(length, Text(length))
        steps = evenly(study.steps(first.name), STEPS)
        last = states(study, first, steps[-1], text)
        start = {"corpus": corpus, "predictions": len(last[0])}
        for step in steps[:-1]:
            pair = _pair(first, step, first, steps[-1])
            yield from _same(start | pair | {"comparison": "step"}, states(study, first, step, text), last)
        for other in others:
            step = study.steps(other.name)[-1]
            pair = _pair(first, steps[-1], other, step)
            yield from _same(start | pair | {"comparison": "seed"}, last, states(study, other, step, text))
        if smaller and smaller[0].training.sequence_length == length:
            pair = _pair(smaller[0], study.steps(smaller[0].name)[-1], first, steps[-1])
            for layer, one in enumerate(smaller[1]):
                for other_layer, two in enumerate(last):
                    yield start | pair | {"comparison": "size"} | _measured(layer, one, other_layer, two)
        smaller = first, last


def _pair(run: Run, step: int, other: Run, other_step: int) -> dict[str, Any]:
    return {"run": run.name, "size": run.size.name, "step": step, "other_run": other.name,
            "other_size": other.size.name, "other_step": other_step}  # fmt: skip


def _same(start: dict[str, Any], one: list[Array], other: list[Array]) -> Iterator[dict[str, Any]]:
    """Each layer with the same of another model."""
    for layer, (mine, theirs) in enumerate(zip(one, other, strict=True)):
        yield start | _measured(layer, mine, layer, theirs)


def _measured(layer: int, one: Array, other_layer: int, other: Array) -> dict[str, Any]:
    return {"layer": layer, "other_layer": other_layer, "cka": cka(one, other), "pwcca": pwcca(one, other)}


def states(study: Study, run: Run, step: int, text: Text) -> list[Array]:
    """The states [predictions, width] after each block of a model, fp32, a sequence at a time, so that no batch is in
    the numbers."""
    import torch

    from scripts.memorize.model import Model

    folder = paths.model(run.name, step)
    sources.require([folder / manifest.NAME])
    torch.use_deterministic_algorithms(mode=True)
    model = Model.of_folder(folder, torch.float32, study.file.runtime.device if torch.cuda.is_available() else "cpu")
    return of_model(model, text)


def of_model(model: Model, text: Text) -> list[Array]:
    """As `states`, of a model that is read."""
    import torch

    places = torch.from_numpy(text.places)
    kept: dict[int, list[Any]] = {}
    _, *blocks, _, _ = model.network.children()

    def keep(number: int) -> Any:
        def hook(_: Any, __: Any, output: torch.Tensor) -> None:
            kept.setdefault(number, []).append(output[0, places].cpu().numpy())

        return hook

    hooks = [block.register_forward_hook(keep(number)) for number, block in enumerate(blocks)]
    try:
        with torch.inference_mode():
            for row in text.sequences:
                model.network.states(row[None].to(model.device))
    finally:
        for hook in hooks:
            hook.remove()
    return [np.concatenate(kept[number]).astype(np.float64) for number in range(len(blocks))]
