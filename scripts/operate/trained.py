"""What would undo training that is there: settings, texts and sequences changed under it, refused before the first job.

Models, scores and the like are simply made again; checkpoints took days and are the user's to drop.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.manifest import Manifest
from scripts.common.units import brief
from scripts.study import paths
from scripts.study.fingerprints import Artefacts, differences, of_data, parents
from scripts.study.manifests import OrderFacts
from scripts.study.study import Study

SHARED = ("sources", "documents", "pairs", "clusters", "tokenizer")  # below data/: what every corpus is made from
WAYS = "  give the study the old settings back, or make the changed one beside it: --directory with another folder"


def check_training(study: Study, root: Path) -> None:
    """Refuse changes under runs that are trained or begun, all at once; raises UserError naming runs, keys and ways."""
    there = Artefacts(study, root, texts=True)
    states = {run: path for run in study.trained if (path := newest_manifest(there, run))}
    refusals, drop = [], []
    for run, path in states.items():
        content = there.content(path)
        if not isinstance(content, Manifest):
            refusals.append(f"{root / path}: can't be read")
            drop.append(run)
        elif lines := differences(study, path, content, root):
            refusals.append(f"{root / paths.checkpoints(run)} holds checkpoints of other settings:")
            refusals += [f"  {line}" for line in lines] + other_ways(study, run, content.settings, there)
            drop.append(run)
    reasons: dict[str, list[str]] = {}
    for run, path in states.items():
        for why in dict.fromkeys(changed_sequences(there, path)):
            reasons.setdefault(why, []).append(run)
    for why, runs in reasons.items():
        refusals += [why, f"  under what was trained on it: {', '.join(brief(runs))}"]
        drop += runs
    if refusals:
        folders = " ".join(str(paths.checkpoints(run)) for run in study.trained if run in drop)
        raise UserError(
            "\n".join([*refusals, WAYS, f"  or keep them under another name, or drop them: rm -r {folders}"])
        )


def check_shared(study: Study, root: Path) -> None:
    """Refuse data of other settings that lies elsewhere, behind a link: making it again would undo another study."""
    home = root.resolve()
    for path, why in Artefacts(study, root).stale(of_data(study)).items():
        if not (place := (root / path).resolve().parent).is_relative_to(home):
            raise UserError(
                f"{path}: was made with other settings, and lies out of this study's folder, where others may use it: "
                f"{place}\n  {'; '.join(brief(why))}\n"
                "  give this study the same settings, or take the link away, so that it makes data of its own"
            )


def newest_manifest(there: Artefacts, run: str) -> str | None:
    """A manifest of what is trained of a run: its own, else of a checkpoint, else of a state to resume from."""
    home = str(paths.checkpoints(run))
    if there.there(f"{home}/{manifest.NAME}"):
        return f"{home}/{manifest.NAME}"
    for folder in (home, f"{home}/{paths.RESUME}"):
        for name in sorted(there.names(folder)):
            if name.startswith(paths.global_step("")) and there.there(path := f"{folder}/{name}/{manifest.NAME}"):
                return path
    return None


def changed_sequences(there: Artefacts, path: str) -> Iterable[str]:
    """Why what a run was trained on, as a manifest of its says, is no longer that, a sentence each; checkpoints it went
    on from are other runs'."""
    held_out = f"{paths.HELD_OUT}/{manifest.NAME}"
    made_from = parents(path, there.content(path) or {})
    sequences = {path: sha for path, sha in made_from.items() if paths.below(path, paths.DATA)}
    if not all(map(there.there, [*sequences, held_out])):  # they would be made anew, from what is there
        for path in of_data(there.study):
            if path.split("/")[1] in SHARED:
                yield from origins(there, path)
    for path in (*sequences, held_out):
        yield from origins(there, path)
        if not there.wrong(path) and (sha := there.sha256(path)) and sequences.get(path, sha) != sha:
            yield f"{path}: is another than the one that was trained on"


def origins(there: Artefacts, path: str) -> list[str]:
    """The first artefacts that are not the study's among those one was made from and itself, with the reasons."""
    found, seen, todo = [], set(), [path]
    while todo:
        at = todo.pop()
        if at in seen or not (why := there.wrong(at)):
            continue
        seen.add(at)
        above = [parent for parent in parents(at, there.content(at) or {}) if there.wrong(parent)]
        todo += above
        if not above:
            found.append(f"{at}: {'; '.join(brief(why))}")
    return found or [f"{path}: {'; '.join(brief(there.wrong(path)))}" for _ in seen][:1]  # forged: all of a circle


def other_ways(study: Study, run: str, made: dict[str, Any], there: Artefacts) -> list[str]:
    """What to ask for instead where a finished run is to be longer, or other steps of it to be kept."""
    if not there.there(f"{paths.checkpoints(run)}/{manifest.NAME}"):
        return []
    before, after = (made.get("training") or {}).get("steps"), study.run(run).training.steps
    kept = [step for step in made.get("optimizer_steps") or [] if isinstance(step, int)]
    if isinstance(before, int) and before < after and kept:
        return [
            f"  its learning rate was laid out for {before} steps, so it is not made longer; leave training.steps at",
            f"  {before} and go on from its state at step {max(kept)} in a run of its own:",
            "    interventions:",
            "      longer:",
            f"        parent: {{run: {run}, step: {max(kept)}}}",
            f"        training: {{steps: {after}}}",
        ]
    if set(study.optimizer_steps(run)) & set(made.get("steps") or []) - set(kept):
        return [f"  optimizer states that it dropped are not put back; it kept those of {', '.join(map(str, kept))}"]
    return []


def check_orders(study: Study, root: Path) -> None:
    """Refuse orders already made that have too few sequences for a run; raises UserError naming every one.

    An order is laid out in whole epochs, so a longer run beside finished ones mostly finds its sequences there. The
    graph doesn't see this length: with one epoch more GPT-NeoX places every sequence anew, and finished runs would be
    undone.
    """
    refusals = []
    for corpus, seed in sorted({(spec.corpus, spec.data_seed) for spec in study.runs.values()}):
        folder, asked = root / paths.order(corpus, seed), study.order_sequences(corpus, seed)
        path = folder / manifest.NAME
        if path.exists() and (there := manifest.read(folder, OrderFacts).facts.sequence_count) < asked:
            refusals.append(
                f"{folder} holds {there} sequences, and a run of {corpus} reads {asked}\n"
                f"  have it made again, and with it all runs that read it: rm {path}"
            )
    if refusals:
        raise UserError("\n".join(refusals))
