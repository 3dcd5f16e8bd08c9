"""Runs that differ by their seeds alone."""

from __future__ import annotations

from scripts.study.runs import Run
from scripts.study.study import Study

FEW = 4  # seeds, fewer of which have no outlier among them


def suite(study: Study) -> list[Run]:
    """The runs from step 0 that the study trains, or where it trains none the external ones."""
    return [run for run in (study.trained or study.external).values() if run.origin is None]


def groups(study: Study) -> dict[tuple[str, str], list[Run]]:
    """The suite's runs by (size, corpus), sizes from small to large."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(suite(study), key=lambda run: (run.size.non_embedding_parameters, run.corpus, run.name)):
        found.setdefault((run.size.name, run.corpus), []).append(run)
    return found


def most(study: Study) -> int:
    """The largest number of seeds of any size and corpus."""
    return max(map(len, groups(study).values()), default=0)


def apart(runs: list[Run]) -> bool:
    """Whether the runs tell weight seed and data seed apart: some have one in common without the other."""
    weights, orders = ({getattr(run, name) for run in runs} for name in ("init_seed", "data_seed"))
    return len({(run.init_seed, run.data_seed) for run in runs}) > max(len(weights), len(orders))
