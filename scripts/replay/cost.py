"""What a replay will take, told before it starts, from the speed at which the runs themselves were trained."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median

from scripts.common.errors import UserError
from scripts.common.units import duration
from scripts.common.untrusted import read_json_lines, reading
from scripts.study import paths
from scripts.study.sampling import Interval
from scripts.study.study import Study

TIMING_BYTES = 1 << 30


def seconds(study: Study, interval: Interval, root: Path = Path()) -> float | None:
    """Seconds of the interval's steps at the median speed recorded for its run; None if there is no record."""
    path = root / paths.checkpoints(interval.run) / paths.TIMING
    if not path.exists():
        return None
    try:
        with reading(path):
            speeds = [float(told["tokens_per_second"]) for told in read_json_lines(path, TIMING_BYTES)]
            return tokens(study, interval) / median(speeds) if speeds else None
    except UserError:
        return None


def tokens(study: Study, interval: Interval) -> int:
    """Tokens the interval's steps are trained on."""
    training = study.run(interval.run).training
    return (interval.end - interval.begin) * training.batch_size * training.sequence_length


def said(study: Study, picked: Iterable[Interval], root: Path = Path()) -> str:
    """A line per span: steps, tokens, and the time its steps took the first time."""
    lines = []
    for interval in picked:
        took = seconds(study, interval, root)
        time = "no speed recorded" if took is None else f"about {duration(took / 3600)} and a start"
        what = f"{interval.end - interval.begin:,} steps, {tokens(study, interval):,} tokens"
        lines.append(f"replay {interval.run} from step {interval.begin} to {interval.end}: {what}, {time}")
    return "\n".join(lines)
