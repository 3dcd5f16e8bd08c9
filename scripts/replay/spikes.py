"""Find steps at which a run's loss or gradient norm jumped.

The rule: what a step's value is above the median of the WINDOW steps before it, in robust standard deviations (1.4826 x
the median absolute deviation) of the same differences at the WINDOW steps before. A loss that falls is below its
trailing median, so the warm-up raises no alarm. Gradient norms are taken as logarithms. A spike is THRESHOLD such
deviations or more; of steps that follow each other the highest is told.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import write_text
from scripts.common.units import brief
from scripts.common.untrusted import read_json_lines, reading
from scripts.study import paths
from scripts.study.manifests import RunFacts
from scripts.study.study import Study, load

WINDOW, THRESHOLD = 64, 8.0
FIRST = 8  # steps before there is a median to be above of
MAD_TO_STD = 1.4826  # of a normal distribution
LOG_BYTES = 1 << 30
MEASURES = ("loss", "gradient_norm")
COLUMNS = ("run", "measure", "step", "value", "expected", "deviations")


@dataclass(frozen=True)
class Spike:
    """A jump at the line of metrics.jsonl that says `step`, which batch `step` - 1 led to: `value` instead of
    `expected`, the trailing median, which is so many robust standard `deviations` too much."""

    run: str
    measure: str
    step: int
    value: float
    expected: float
    deviations: float


def deviations(values: np.ndarray, window: int = WINDOW) -> tuple[np.ndarray, np.ndarray]:
    """How far each value [steps] is above the trailing median, in robust standard deviations of such differences
    before it, and that median; NaN where there are too few steps before, or where a value is NaN."""
    medians, found = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for step in range(FIRST, len(values)):
        before = values[max(0, step - window) : step]
        if np.isfinite(before).any():
            medians[step] = np.nanmedian(before)
    above = values - medians
    for step in range(FIRST + window, len(values)):
        before = above[step - window : step]
        before = before[np.isfinite(before)]
        if len(before) < window // 2 or not np.isfinite(above[step]):
            continue
        centre = np.median(before)
        spread = MAD_TO_STD * np.median(np.abs(before - centre))
        if spread > 0:
            found[step] = (above[step] - centre) / spread
    return found, medians


def spikes(run: str, lines: Iterable[dict[str, Any]], threshold: float = THRESHOLD) -> Iterator[Spike]:
    """The spikes of a run's lines of metrics.jsonl, by measure, then step."""
    told = list(lines)
    for measure in MEASURES:
        values = np.array([np.nan if line[measure] is None else line[measure] for line in told], dtype=np.float64)
        with np.errstate(divide="ignore"):
            height, medians = deviations(np.log(values) if measure == "gradient_norm" else values)
        high = np.flatnonzero((np.nan_to_num(height) >= threshold) & (values > _levels(measure, medians)))
        for _, together in groupby(enumerate(high.tolist()), lambda pair: pair[1] - pair[0]):
            at = max((index for _, index in together), key=lambda index: height[index])
            expected = float(_levels(measure, medians)[at])
            yield Spike(run, measure, told[at]["step"], float(values[at]), expected, float(height[at]))


def _levels(measure: str, medians: np.ndarray) -> np.ndarray:
    """Medians as values of the measure."""
    return np.exp(medians) if measure == "gradient_norm" else medians


def of_run(run: str, threshold: float = THRESHOLD) -> list[Spike]:
    """The spikes of a finished run; raises UserError for metrics that can't be read."""
    folder = paths.checkpoints(run)
    manifest.read(folder, RunFacts)
    path = folder / paths.METRICS
    with reading(path):
        lines = list(read_json_lines(path, LOG_BYTES))
        if any(not {"step", *MEASURES} <= line.keys() for line in lines):
            raise UserError(f"{path}: a line lacks one of step, {', '.join(MEASURES)}")
    return list(spikes(run, lines, threshold))


def table(found: Iterable[Spike]) -> str:
    """Spikes as CSV."""
    rows = [[str(each.run), each.measure, each.step, *(f"{value:.6g}" for value in list(asdict(each).values())[3:])]
            for each in found]  # fmt: skip
    return "\n".join(",".join(map(str, row)) for row in [COLUMNS, *rows]) + "\n"


def in_words(spike: Spike) -> str:
    """A spike as a line."""
    return (
        f"{spike.run}: {spike.measure} {spike.value:.4g} at step {spike.step} instead of {spike.expected:.4g}, "
        f"{spike.deviations:.1f} deviations (batch {spike.step - 1})"
    )


def finished(study: Study) -> list[str]:
    """The runs that are trained to their end; the others are named on stderr."""
    done = [run for run in study.trained if (paths.checkpoints(run) / manifest.NAME).exists()]
    if left := [run for run in study.trained if run not in done]:
        print(f"not trained to the end, so left out: {', '.join(brief(left))}", file=sys.stderr)
    return done


def main() -> None:
    parser = Parser(description=f"{__doc__} Writes {paths.SPIKES}.").takes("study")
    parser.add_argument("--run", help="of this run alone, and write no table")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help=f"deviations (default: {THRESHOLD:g})")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    study = load(given.study)
    runs = [study.run(given.run).name] if given.run else finished(study)
    found = [spike for run in runs for spike in of_run(run, given.threshold)]
    if given.run is None:
        write_text(paths.SPIKES, table(found))
    if given.json:
        print(json.dumps([asdict(spike) for spike in found], indent=1))
    else:
        print("\n".join(map(in_words, found)) or f"no spike in {len(runs)} runs")
