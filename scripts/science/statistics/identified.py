"""Which law a set of runs can tell, and what it cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scripts.science.statistics.law import parameters
from scripts.science.statistics.uncertainty import SPARE

WITH_FLOOR = 4  # values of one predictor from which a floor can be told from a power law and the fit be judged
BOTH = 3  # sizes and lengths from which a law of both can be told
SAME = 1.01  # factor within which two runs read equally much


@dataclass(frozen=True)
class Form:
    """A law that can be told: its predictors ("N", "D"), whether it has a floor E, and what is left open."""

    predictors: tuple[str, ...]
    floor: bool
    untold: str = ""

    @property
    def text(self) -> str:
        """The law as a formula."""
        terms = {"N": "A / N^alpha", "D": "B / D^beta"}
        return " + ".join([*(["E"] if self.floor else []), *(terms[name] for name in self.predictors)])

    @property
    def names(self) -> list[str]:
        """Its parameters: factors, exponents, floor."""
        factors, exponents = {"N": "A", "D": "B"}, {"N": "alpha", "D": "beta"}
        found = [factors[name] for name in self.predictors] + [exponents[name] for name in self.predictors]
        return found + (["E"] if self.floor else [])


def form(params: ArrayLike, tokens: ArrayLike) -> Form | str:
    """The law that runs of these sizes and tokens tell, or why they tell none.

    Of both predictors only where several sizes were trained at several lengths each: where tokens grow with size, or
    are equal, the part of one cannot be told from the other's.
    """
    sizes, lengths = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    if not len(sizes):
        return "no run ends in a decay"
    same_length = bool(lengths.max() <= SAME * lengths.min())
    different = {name: len(set(values)) for name, values in (("N", sizes), ("D", lengths))}
    crossed = sum(lengths[sizes == size].max() > SAME * lengths[sizes == size].min() for size in set(sizes))
    if different["N"] >= BOTH and different["D"] >= BOTH and crossed >= BOTH:
        if len(sizes) >= parameters(2, floor=True) + SPARE:
            return Form(("N", "D"), floor=True)
        return f"{len(sizes)} runs are too few for the {parameters(2, floor=True)} parameters of a law of size and data"
    if same_length and different["N"] > 1:
        return _of_one("N", different["N"], "all runs read equally much, so what data do is part of the rest")
    if different["N"] == 1 and not same_length:
        return _of_one("D", different["D"], "there is one size, so what size does is part of the rest")
    if different["N"] == 1:
        return "all runs are of one size and length"
    return "size and data do not vary apart from each other, so neither's part can be told"


def _of_one(name: str, values: int, why: str) -> Form:
    if values >= WITH_FLOOR:
        return Form((name,), floor=True, untold=f"the exponent of {'data' if name == 'N' else 'size'} ({why})")
    return Form(
        (name,),
        floor=False,
        untold=f"the floor E (it takes {WITH_FLOOR} values of {name}, there are {values}) and the exponent of "
        f"{'data' if name == 'N' else 'size'} ({why})",
    )
