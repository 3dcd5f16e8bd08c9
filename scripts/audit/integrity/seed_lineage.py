"""Which run a checkpoint descends from, by its weights: seeds are far apart, and each run near its own beginning."""

from __future__ import annotations

from itertools import combinations

from scripts.audit.integrity.distances import FAR, relative
from scripts.audit.verdict import Check, judged
from scripts.common.errors import UserError
from scripts.common.untrusted import reading
from scripts.neox.tensor_parallel import Layers
from scripts.neox.weights import read_layers
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.study import Study


def check_seeds(study: Study) -> Check:
    """Runs of one size and other init seeds are far apart, at their beginnings and at their ends."""
    faults: list[str] = []
    nearest, count = 2.0, 0
    for one, other in combinations(study.trained.values(), 2):
        if not _comparable(study, one, other) or one.init_seed == other.init_seed:
            continue
        for steps in {(study.steps(one.name)[end], study.steps(other.name)[end]) for end in (0, -1)}:
            value = _between(one, steps[0], other, steps[1], faults)
            if value is None:
                continue
            count += 1
            nearest = min(nearest, value)
            if value < FAR:
                a, b = _place(one, steps[0]), _place(other, steps[1])
                faults.append(f"{a} and {b}: {value:.2f} apart, weights of unrelated seeds are about 1")
    what = "Runs of different init seeds are far apart, at their beginnings and at their ends"
    if not count and not faults:
        return Check("seeds", what, "not applicable", ("no two runs of one size have different init seeds",))
    return judged("seeds", what, faults, f"{count:,} pairs, the nearest {nearest:.2f} (equal: 0, unrelated: about 1)")


def check_own_beginning(study: Study) -> Check:
    """A run's checkpoints are nearer to its own step 0 than to that of any other init seed of its size.

    Looked at are its first saved step after the beginning, its middle one and its last.
    """
    faults: list[str] = []
    count = 0
    for run in study.trained.values():
        begun = _beginnings(study, run)
        if run.init_seed not in begun or len(begun) < 2:
            continue
        steps = [step for step in study.steps(run.name) if step > 0]
        for step in sorted({steps[0], steps[len(steps) // 2], steps[-1]}):
            known = _from_beginnings(run, step, begun, faults)
            count += 1
            if known and (nearest := min(known, key=lambda seed: known[seed])) != run.init_seed:
                own = known.get(run.init_seed, float("nan"))
                told = f"nearer to step 0 of {begun[nearest].name} ({known[nearest]:.3f}) than to its own ({own:.3f})"
                faults.append(f"{_place(run, step)}: {told}")
    what = "Each run is nearer to its own step 0 than to that of any other init seed"
    if not count:
        return Check("own_beginning", what, "not applicable", ("no size has runs of two init seeds with step 0",))
    return judged("own_beginning", what, list(dict.fromkeys(faults)), f"{count:,} checkpoints")


def _from_beginnings(run: Run, step: int, begun: dict[int, Run], faults: list[str]) -> dict[int, float]:
    """How far a checkpoint is from step 0 of each init seed, where both can be read."""
    try:
        with reading(_place(run, step)):
            own = _layers(run, step)
        found = {}
        for seed, other in begun.items():
            with reading(_place(other, 0)):
                found[seed] = relative(own, _layers(other, 0))
        return found
    except UserError as error:
        faults.append(str(error))
        return {}


def _beginnings(study: Study, run: Run) -> dict[int, Run]:
    """By init seed a run of the same shape that begins at step 0."""
    return {
        other.init_seed: other
        for other in reversed(study.trained.values())
        if other.origin is None and _comparable(study, run, other)
    }


def _comparable(study: Study, one: Run, other: Run) -> bool:
    same_size = (one.size.layers, one.size.width) == (other.size.layers, other.size.width)
    own = all(run.origin is None or run.origin.run is not None for run in (one, other))
    return own and same_size and study.padded_vocabulary(one.name) == study.padded_vocabulary(other.name)


def _between(one: Run, first: int, other: Run, second: int, faults: list[str]) -> float | None:
    try:
        with reading(f"{_place(one, first)} and {_place(other, second)}"):
            return relative(_layers(one, first), _layers(other, second))
    except UserError as error:
        faults.append(str(error))
        return None


def _layers(run: Run, step: int) -> Layers:
    return read_layers(paths.checkpoint(run.name, step), run.size.layers)


def _place(run: Run, step: int) -> str:
    return str(paths.checkpoint(run.name, step))
