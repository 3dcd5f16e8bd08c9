"""Show which sequences made a run's loss or gradient norm jump, by a replay with the loss of each sequence.

A sequence stands out by what its loss is above the median of the sequences of its component in the batches around, in
their robust standard deviations. Whether a few sequences did it or the whole batch is told by how much of the batch's
excess loss is theirs.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.common.command import Parser
from scripts.common.errors import UserError, explain
from scripts.data.changes import change_of
from scripts.data.sequences import Sequences
from scripts.data.tools.view.text import Vocabulary
from scripts.replay import record
from scripts.replay.spikes import MAD_TO_STD, THRESHOLD, Spike, in_words, of_run
from scripts.study import paths
from scripts.study.config.recordings import Recording
from scripts.study.recordings import RunRecording
from scripts.study.study import Study, load
from scripts.train.drafts import Draft

BEFORE, AFTER = 8, 2  # batches recorded around the one that led to the spike
STANDS_OUT = 5.0  # robust standard deviations
FEWEST = 8  # sequences of a component that its own median is taken of; of fewer, that of all
SHOWN, LETTERS = 3, 160  # sequences, and of their text


@dataclass(frozen=True)
class Zoom:
    """The sequences around a spike: a row each in `losses` (`step`: the batch, `sample_index`, `document`, `component`,
    `loss`, `expected`, `deviations`), those of the spike's batch that stand out, highest first, and their fraction of
    the batch's excess loss."""

    step: int
    losses: pd.DataFrame
    standing_out: pd.DataFrame
    fraction: float


def recorded(study: Study, run: str, batch: int) -> pd.DataFrame:
    """Loss of each sequence of the batches around one, by replay: `step`, `sample_index`, `loss`."""
    spec = study.run(run)
    first, last = max(spec.first_step, batch - BEFORE), min(spec.training.steps - 1, batch + AFTER)
    asked = Recording(runs=[run], steps=list(range(first, last + 1)), what=["loss_per_sequence"])
    recording = RunRecording("zoom", asked, spec, study.padded_vocabulary(run))
    draft = Draft(study, recording, paths.REPLAYED)  # of no study's key, so it lies with what may be dropped
    draft.folder.mkdir(parents=True, exist_ok=True)
    for stretch in record.lacking(study, recording, draft.steps()):
        record.replay(study, draft, stretch)
    lines = [json.loads(line) for step, line in draft.lines() if step in set(recording.steps)]
    size = spec.training.batch_size
    frames = [pd.DataFrame({"step": line["step"], "sample_index": range(line["step"] * size, (line["step"] + 1) * size),
                            "loss": line["losses"]}) for line in lines]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def judged(losses: pd.DataFrame, batch: int) -> Zoom:
    """What stands out in a batch; `losses` has `step`, `sample_index`, `component`, `loss`, of batches around too."""
    others = losses[losses.step != batch]
    whole = _centre(others.loss)
    centres = {name: _centre(group.loss) for name, group in others.groupby("component") if len(group) >= FEWEST}
    expected, spread = np.array([centres.get(name, whole) for name in losses.component]).T
    found = losses.assign(expected=expected, deviations=(losses.loss - expected) / spread)
    mine = found[found.step == batch]
    high = mine[mine.deviations >= STANDS_OUT].sort_values("deviations", ascending=False)
    excess = float((mine.loss - mine.expected).sum())
    fraction = float((high.loss - high.expected).sum()) / excess if excess > 0 else 0.0
    return Zoom(batch, found, high, min(1.0, fraction))


def _centre(losses: pd.Series[float]) -> tuple[float, float]:
    """Median and robust standard deviation, which is never 0."""
    median = float(losses.median())
    return median, max(MAD_TO_STD * float((losses - median).abs().median()), 1e-6)


def zoom(study: Study, run: str, batch: int) -> Zoom:
    """Replay around a batch and judge it; raises UserError where a replay does."""
    spec = study.run(run)
    losses = recorded(study, run, batch)
    with_change = change_of(spec)
    order = Sequences.open(paths.corpus(spec.corpus), spec.data_seed, with_change, int(losses.sample_index.max()) + 1)
    documents = order.origin(losses.sample_index.to_numpy())
    components = [order.components[number] for number in documents.tolist()]
    return judged(losses.assign(document=documents, component=components), batch)


def told(study: Study, run: str, found: Zoom) -> list[str]:
    """What was found, with the text of what stands out."""
    spec, high = study.run(run), found.standing_out
    mine = found.losses[found.losses.step == found.step]
    mean, expected = mine.loss.mean(), mine.expected.mean()
    lines = [f"batch {found.step} of {run}: mean loss {mean:.3f}, {expected:.3f} expected of such sequences"]
    if high.empty:
        return [*lines, "no sequence stands out; look at the gradient norms and updates of the steps before"]
    order = Sequences.open(paths.corpus(spec.corpus), spec.data_seed, change_of(spec))
    vocabulary = Vocabulary.read(paths.VOCABULARY)
    lines.append(f"{len(high)} of {len(mine)} sequences stand out, with {found.fraction:.0%} of the excess loss:")
    for row in high.head(SHOWN).to_dict("records"):
        (entry,), (tokens,) = order.documents([row["document"]]), order.at([row["sample_index"]])
        text = " ".join(vocabulary.decode(tokens.tolist()).split())[:LETTERS]
        lines.append(
            f"  sample index {row['sample_index']}, {row['component']}, {entry.origin} ({entry.id}): loss "
            f"{row['loss']:.3f} instead of {row['expected']:.3f}, {row['deviations']:.1f} deviations\n    {text}"
        )
    return lines


def chosen(study: Study, run: str, step: int | None, threshold: float) -> Spike | None:
    """The spike to look at: none where a step is given, else the run's highest of the loss, or of the gradient
    norm if the loss has none. Raises UserError if there is none."""
    if step is not None:
        spec = study.run(run)
        if not spec.first_step < step <= spec.training.steps:
            raise UserError(
                explain("--step", step, f"{spec.first_step + 1} to {spec.training.steps}, the lines of metrics.jsonl")
            )
        return None
    if not (found := of_run(run, threshold)):
        raise UserError(f"{run}: no spike of {threshold:g} deviations\n  write:   a lower --threshold, or --step N")
    return max(found, key=lambda spike: (spike.measure == "loss", spike.deviations))


def main() -> None:
    parser = Parser(description=f"{__doc__} Writes {paths.zoom('<run>', '<step>')}.").takes("study", "run")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--around-spike", action="store_true", help="the run's highest spike")
    which.add_argument("--step", type=int, help="this line of metrics.jsonl, whose batch is the one before")
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD, help=f"deviations of a spike (default: {THRESHOLD:g})"
    )
    given = parser.parse_args()
    study = load(given.study)
    study.run(given.run)
    spike = chosen(study, given.run, given.step, given.threshold)
    step = spike.step if spike else given.step
    found = zoom(study, given.run, step - 1)
    path = paths.zoom(given.run, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.losses.to_csv(path, index=False)
    shutil.rmtree(paths.REPLAYED / paths.recording("zoom", given.run), ignore_errors=True)
    print("\n".join([*([in_words(spike)] if spike else []), *told(study, given.run, found), f"all sequences: {path}"]))
