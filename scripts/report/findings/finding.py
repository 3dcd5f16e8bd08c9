"""What a finding is, and the few rules by which findings are decided and worded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

CLEAR = 2.0  # standard errors from which a difference counts as one


@dataclass(frozen=True)
class Finding:
    """A sentence with the numbers it rests on.

    `expectation` is what the Pythia papers lead one to expect, `holds` whether it came out here: None
    if the numbers can't tell, or if the finding is a plain fact (then `expectation` is None too).
    A `check` asks whether the study itself is right (its loss falls, its order is one), and says nothing of Pythia.
    Headlines have a `short` line for the closing screen. `effect` is the difference a finding is about, in `unit`;
    `interval` its 95 % interval; `yardstick` what another seed alone does to the same measure, of any sign. `figure`
    and `table` name what shows it: a figure of the report, a table of results/tables or results/science.
    """

    id: str
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)
    expectation: str | None = None
    holds: bool | None = None
    check: bool = False
    headline: bool = False
    short: str | None = None
    effect: float | None = None
    interval: tuple[float, float] | None = None
    yardstick: float | None = None
    unit: str | None = None
    figure: str | None = None
    table: str | None = None

    def plain(self) -> dict[str, Any]:
        """As results/findings.json holds it; floats to six digits."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def greater(difference: float, stderr: float) -> bool | None:
    """True if clearly above 0, False if clearly below, None within `CLEAR` standard errors of 0."""
    if abs(difference) <= CLEAR * stderr or difference == 0:
        return None
    return difference > 0


def detectable(stderr: float) -> float:
    """The difference that `greater` finds in 80 % of studies: of a smaller one it can't say that there is none."""
    return (CLEAR + NormalDist().inv_cdf(0.8)) * stderr


def fractions_differ(hits: tuple[float, float], rows: tuple[float, float]) -> bool | None:
    """`greater` for two fractions of independent rows, with the pooled standard error of their difference."""
    pooled = sum(hits) / sum(rows)
    stderr = math.sqrt(pooled * (1 - pooled) * (1 / rows[0] + 1 / rows[1]))
    return greater(hits[0] / rows[0] - hits[1] / rows[1], stderr)


def beyond_chance(differences: Sequence[tuple[float, float]], sided: int = 2) -> bool:
    """Whether (difference, standard error) of several comparisons show more than chance does where nothing differs.

    Either one stands out of them all (Bonferroni), or more of them are clear than chance makes so, each asked at 2.5 %;
    from `CLEAR` standard errors on one comparison in 22 is clear by chance. With `sided` 1 only differences above 0
    count. Comparisons are taken as independent.
    """
    ratios = [value / error if error else math.copysign(math.inf, value) for value, error in differences if value]
    ratios = [abs(ratio) if sided == 2 else ratio for ratio in ratios]
    count, clear = len(differences), sum(ratio > CLEAR for ratio in ratios)
    alarm = sided * (1 - NormalDist().cdf(CLEAR))
    fewer = sum(math.comb(count, k) * alarm**k * (1 - alarm) ** (count - k) for k in range(clear))
    strongest = sided * NormalDist().cdf(-max(ratios, default=0.0))
    return clear > 0 and (strongest * count < 0.025 or 1 - fewer < 0.025)


def root_sum(*errors: float) -> float:
    """Standard error of a difference of independent values."""
    return math.sqrt(sum(error * error for error in errors))


def percent(fraction: float) -> str:
    """12.3% (two decimals below one percent)."""
    return f"{100 * fraction:.2f}%" if 0 < fraction < 0.01 else f"{100 * fraction:.1f}%"


def listed(parts: Sequence[str], most: int = 8) -> str:
    """a, b and c; with more than `most`, how many more."""
    if len(parts) > most:
        return ", ".join(parts[:most]) + f" and {len(parts) - most} more"
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _rounded(value: Any) -> Any:
    """Plain data with floats cut to six significant digits; a value that is not finite becomes None."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
