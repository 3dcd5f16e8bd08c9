"""Show checkpoints of a run the sequences that each of them just saw, and flag what does not fit its place."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from scripts.audit.recency import recency
from scripts.audit.replay.pieces import of_run, read_pieces
from scripts.audit.state import looked_at, state, together
from scripts.audit.verdict import Check, judged, plain
from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import write_json, write_text
from scripts.common.progress import progress
from scripts.study import paths
from scripts.study.manifests import CheckpointFacts
from scripts.study.sampling import LEAST_CHECKPOINTS, recency_runs, recency_steps, windows
from scripts.study.study import Study, load

TEXTS = ("run", "size")
COLUMNS = (*TEXTS, "step", "window", "sequences", "loss", "corrected")
TOGETHER = 16  # sequences in a forward pass


def losses(study: Study, name: str, steps: list[int], indices: np.ndarray) -> np.ndarray:
    """Mean loss in nats per token of each checkpoint on the sequences at these indices of its order, float64 [steps,
    sequences]."""
    import torch

    from scripts.data.changes import change_of
    from scripts.data.sequences import Sequences
    from scripts.neox.model import GPTNeoX
    from scripts.neox.weights import read_layers

    runtime, spec = study.file.runtime, study.run(name)
    torch.set_num_threads(runtime.threads)
    order = Sequences.open(paths.corpus(spec.corpus), spec.data_seed, change_of(spec))
    sequences = torch.from_numpy(order.at(indices).astype(np.int64))
    model = GPTNeoX(spec.size, study.padded_vocabulary(name), spec.training.sequence_length).to(runtime.device).eval()
    found = np.empty((len(steps), len(sequences)))
    with progress(f"recency {name}", len(steps), "checkpoints") as tell, torch.no_grad():
        for number, step in enumerate(steps):
            folder = paths.checkpoint(name, step)
            manifest.read(folder, CheckpointFacts)
            layers = read_layers(folder, spec.size.layers)
            for layer, module in model.numbered().items():
                module.load_state_dict(layers[layer], strict=True)
            parts = [model(part[:, :-1], part[:, 1:]) for part in sequences.to(runtime.device).split(TOGETHER)]
            each = torch.cat([part.reshape(-1, spec.training.sequence_length).double().mean(dim=1) for part in parts])
            found[number] = each.cpu().numpy()
            tell(number + 1)
    return found


def look(study: Study, name: str) -> dict[str, Any]:
    """The verdict on a run and its table's lines."""
    steps, spec = recency_steps(study, name), study.run(name)
    what = f"each checkpoint of {name} knows the sequences just before it better than its others do"
    if len(steps) < LEAST_CHECKPOINTS:
        why = (f"{len(steps)} saved steps after the warm-up, fewer than {LEAST_CHECKPOINTS}",)
        return {**plain([Check(f"recency-{name}", what, "not applicable", why)]), "table": []}
    bounds = windows(steps, spec.first_step, spec.training.batch_size, study.file.audit.recency.sequences)
    indices = np.concatenate([np.arange(begin, end) for begin, end in bounds])
    window = np.repeat(np.arange(len(steps)), [end - begin for begin, end in bounds])
    found = losses(study, name, steps, indices)
    return {**plain([check(name, steps, found, window)]), "table": table(study, name, steps, found, window)}


def check(name: str, steps: list[int], found: np.ndarray, window: np.ndarray) -> Check:
    """The verdict on a run's checkpoints from their losses [steps, sequences]."""
    faults = [
        f"{paths.checkpoint(name, steps[misfit.at])}: knows the sequences just before step {steps[misfit.at]} less "
        f"well than {paths.global_step(steps[misfit.better])} does, by {misfit.z:.1f} standard errors"
        for misfit in recency.misfits(found, window)
    ]
    seen, pairs = recency.power(found, window)
    return judged(
        f"recency-{name}",
        f"each checkpoint of {name} knows the sequences just before it better than its others do",
        faults,
        f"{len(steps)} checkpoints, {len(window)} sequences; of {pairs} pairs that could have changed places {seen} "
        "would have been flagged",
    )


def table(study: Study, name: str, steps: list[int], found: np.ndarray, window: np.ndarray) -> list[dict[str, Any]]:
    """A line per checkpoint and window of sequences: mean loss, and that corrected for sequence and checkpoint."""
    loss, corrected = recency.means(found, window), recency.means(recency.corrected(found, window), window)
    size = study.run(name).size.name
    return [
        {"run": name, "size": size, "step": step, "window": end, "sequences": int((window == column).sum()),
         "loss": round(float(loss[line, column]), 6), "corrected": round(float(corrected[line, column]), 6)}
        for line, step in enumerate(steps)
        for column, end in enumerate(steps)
    ]  # fmt: skip


def _lines(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The table's lines in a run's verdict; raises KeyError or TypeError if they are not such as are written."""
    lines = [{column: line[column] for column in COLUMNS} for line in content["table"]]
    for line in lines:
        if any(type(value) not in ((str,) if column in TEXTS else (int, float)) for column, value in line.items()):
            raise TypeError(f"a line of {line!r}")
    return lines


def gather(study: Study) -> dict[str, Any]:
    """Write the verdict on all runs looked at, and their table; returns the verdict."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    contents, checks = read_pieces(map(paths.recency, recency_runs(study)), _lines)
    for content in contents:
        writer.writerows(_lines(content))
    write_text(paths.RECENCY_TABLE, text.getvalue())
    verdict = {**plain(checks), "of": together(contents)}
    write_json(paths.RECENCY, verdict)
    return verdict


def main() -> None:
    parser = Parser(
        description=f"{__doc__} Writes {paths.recency('<run>')}, or {paths.RECENCY} and {paths.RECENCY_TABLE}."
    ).takes("study")
    parser.add_argument("--run", help="name of a run (default: gather what was found for the runs drawn)")
    arguments = parser.parse_args()
    study = load(arguments.study)
    if arguments.run is None:
        for found in gather(study)["checks"]:
            print(f"{found['status']:15}{found['id']}: {found['evidence'][0]}")
        return
    study.run(arguments.run)
    if not (paths.checkpoints(arguments.run) / manifest.NAME).exists():
        raise UserError(f"{paths.checkpoints(arguments.run)}: the run is not finished")
    content = look(study, arguments.run)
    of = state(looked_at(study, arguments.run))
    facts = {"run": arguments.run, "run_manifest": of_run(arguments.run), "of": of}
    write_json(paths.recency(arguments.run), {**content, **facts})
