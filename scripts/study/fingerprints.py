"""The settings that each artefact of a study should have been made with, held against those it says of itself.

Start, jobs, status and audit ask here, whatever Snakemake remembers: a folder without `.snakemake`, a copied one, or
`data/` of another study holds artefacts that Snakemake takes as they are. An artefact is the study's if its settings
are the study's and whatever it was made from is still what it names, and the study's in its turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.files import canonical, read_json, sha256_file
from scripts.common.manifest import Manifest
from scripts.common.units import brief
from scripts.study import paths, targets
from scripts.study.inventory import Inventory
from scripts.study.manifests import RunFacts, SourceFacts, kind_at
from scripts.study.stages import CONVERT, OF_MODELS, at, pattern
from scripts.study.study import HELD_OUT, Study
from scripts.study.texts import changed, distinct, matching

MADE_FROM = "made from"  # begins a reason that lies in another artefact
Settings = dict[str, Any]
Told = Manifest[Any] | Settings  # what an artefact says of itself: its manifest, or a result that is its own
SAVED = ("steps", "optimizer_steps")  # of a run's settings: which of its states are kept, not what is in them


def run_settings(study: Study, run: str, root: Path = Path()) -> Settings:
    """A run's settings; of a finished one with the steps that it saved, whichever are asked for now.

    So fewer steps may be asked of it: what is there stays as it is, and the others are used no more; and further ones,
    which a replay gives back (scripts/replay/steps.py). An optimizer state that was dropped is no such step.
    """
    asked = study.train_settings(run)
    try:
        made = manifest.read(root / paths.checkpoints(run), RunFacts).settings
        whole = {key: made[key] for key in SAVED}
        dropped = (set(asked["optimizer_steps"]) - set(whole["optimizer_steps"])) & set(whole["steps"])
    except (UserError, KeyError, TypeError):
        return asked
    return asked if dropped else {**asked, **whole}


def _documents(study: Study, component: str) -> Settings | None:
    known = component in study.file.data.components
    return {**study.component_settings(component), "parts": study.parts(component)} if known else None


def _corpus(study: Study, corpus: str) -> Settings | None:
    return study.corpus_settings(corpus) if corpus in (*study.file.data.corpora, HELD_OUT) else None


def _order(study: Study, corpus: str, seed: str) -> Settings | None:
    read = any((run.corpus, str(run.data_seed)) == (corpus, seed) for run in study.runs.values())
    return study.order_settings(corpus, int(seed)) if read and corpus in study.file.data.corpora else None


def _run(study: Study, run: str) -> Settings | None:
    return study.train_settings(run) if run in study.trained else None


SETTINGS: dict[Path, Callable[..., Settings | None]] = {  # by the folder, with {names}, of what is no stage's output
    paths.source("{component}"): lambda study, name: (
        study.component_settings(name) if name in study.file.data.components else None
    ),
    paths.documents("{component}", "*"): _documents,
    paths.pairs("*"): Study.hashing_settings,
    paths.CLUSTERS: Study.cluster_settings,
    paths.TOKENIZER: Study.tokenizer_settings,
    paths.TASKS: Study.task_settings,
    paths.external("{corpus}"): _corpus,
    paths.corpus("{corpus}"): _corpus,
    paths.order("{corpus}", "{seed}"): _order,
    paths.checkpoints("{run}"): _run,
    paths.checkpoint("{run}", "*"): _run,
    paths.replayed_checkpoint("{run}", "*"): _run,
    paths.resume("{run}", "*"): _run,
    paths.segment("{run}", "*"): _run,
}
PATTERNS = {pattern(f"{folder}/{manifest.NAME}"): settings for folder, settings in SETTINGS.items()}


@lru_cache(maxsize=1 << 14)
def _asked(study: Study, settings: Callable[..., Settings | None], names: tuple[str, ...]) -> Settings | None:
    asked = settings(study, *names)
    return None if asked is None else json.loads(canonical(asked))


def settings_of(study: Study, path: str) -> Settings | None:
    """The settings, not to be changed, that the artefact at a path of the study's folder should have been made with;
    None of what the study doesn't ask for."""
    for known, settings in PATTERNS.items():
        if match := known.fullmatch(path):
            return _asked(study, settings, match.groups())
    if found := at(path):
        stage, names = found
        run, part = names["run"], names.get("part", "")
        if run in study.runs and part in stage.parts(study):
            return _asked(study, stage.settings, (run, part))
    return None


def _trained(path: str) -> bool:
    return paths.below(path, paths.CHECKPOINTS) or paths.below(path, paths.REPLAYED)


def said(path: str, content: Told) -> Any:
    """The settings that an artefact says it was made with."""
    if not isinstance(content, Manifest):
        return content.get("settings")
    if _trained(path):
        return {key: value for key, value in content.settings.items() if key != "parents"}
    if paths.below(path, paths.DOCUMENTS):
        return {**content.settings, "parts": content.subject.get("parts")}
    return content.settings


def parents(path: str, content: Told) -> dict[str, str]:
    """sha256 of the manifests an artefact was made from, by path; of a checkpoint, those of its run."""
    if isinstance(content, Manifest):
        return dict(content.settings.get("parents") or {}) if _trained(path) else content.parents
    model = CONVERT.file(content.get("run", ""), content.get("step", ""))
    named = {model: content.get("model"), f"{paths.TASKS}/{manifest.NAME}": content.get("tasks"),
             f"{paths.HELD_OUT}/{manifest.NAME}": content.get("held_out")}  # fmt: skip
    return {parent: sha for parent, sha in {**named, **content.get("sequences", {})}.items() if sha}


def differences(study: Study, path: str, content: Told, root: Path = Path()) -> list[str]:
    """How the settings an artefact says it was made with differ from the study's, a key a line."""
    asked, made = settings_of(study, path), said(path, content)
    if asked is None or asked == made:
        return []
    if _trained(path):
        asked = json.loads(canonical(run_settings(study, asked["run"], root)))
    return manifest.differing(made, asked)


class Artefacts(Inventory):
    """The artefacts of a study in a folder, each read once. With `texts`, raw texts that were changed since they were
    read count as settings: what was made from them is not the study's."""

    def __init__(self, study: Study, root: Path = Path(), *, texts: bool = False) -> None:
        super().__init__(root)
        self.study, self.texts = study, texts
        self._content: dict[str, Told | None] = {}
        self._sha256: dict[str, str | None] = {}
        self._wrong: dict[str, list[str]] = {}

    def content(self, path: str) -> Told | None:
        """What an artefact that is there says of itself; None if it can't be read as what it should be."""
        if path not in self._content:
            try:
                self._content[path] = self._read(path)
            except (OSError, ValueError, RecursionError, UserError):
                self._content[path] = None
        return self._content[path]

    def _read(self, path: str) -> Told | None:
        file = self.root / path
        read = parquet_facts(file) if file.suffix == ".parquet" else read_json(file)
        if kind := kind_at(path):
            return manifest.parse(read, [kind])
        return read if isinstance(read, dict) else None

    def sha256(self, path: str) -> str | None:
        """Of a file that is there, or None."""
        if path not in self._sha256:
            self._sha256[path] = sha256_file(self.root / path) if self.there(path) else None
        return self._sha256[path]

    def wrong(self, path: str) -> list[str]:
        """Why an artefact that is there is not the study's: keys that differ, or what it was made from."""
        if path not in self._wrong:
            self._wrong[path] = []  # of a circle, which forged manifests may hold
            self._wrong[path] = self._look(path) if self.there(path) else []
        return self._wrong[path]

    def _look(self, path: str) -> list[str]:
        content = self.content(path)
        if content is None:
            return ["can't be read"] if settings_of(self.study, path) else []
        if lines := differences(self.study, path, content, self.root) or self._texts_changed(path, content):
            return lines
        for parent, sha in parents(path, content).items():
            if self.sha256(parent) not in (sha, None):
                return [f"{MADE_FROM} another {parent} than there is now"]
            if why := self.wrong(parent):
                return [f"{MADE_FROM} {parent}, which is not the study's: {'; '.join(brief(why))}"]
        return []

    def _texts_changed(self, path: str, content: Told) -> list[str]:
        if not self.texts or not isinstance(content, Manifest) or not isinstance(content.facts, SourceFacts):
            return []
        component = self.study.file.data.components.get(Path(path).parent.name)
        if not component or not component.files:
            return []
        files = distinct(file for pattern in component.files for file in matching(pattern))
        return changed(content.facts.files, files, (self.root / path).stat().st_mtime)

    def stale(self, asked: Iterable[str]) -> dict[str, list[str]]:
        """Those of these artefacts that are there and not the study's, with the reasons."""
        return {path: why for path in dict.fromkeys(asked) if (why := self.wrong(path))}


def everything(study: Study) -> Iterator[str]:
    """Every artefact that tells its settings, by path: of data, training and models."""
    yield from of_data(study)
    yield from of_training(study)
    yield from of_models(study)


def parquet_facts(path: Path) -> Settings:
    """The key "castalia" of a parquet's metadata; raises ValueError or OSError if there is none."""
    import pyarrow.parquet as pq

    found: Settings = json.loads((pq.read_schema(path).metadata or {}).get(b"castalia", b""))
    return found


def of_data(study: Study) -> Iterator[str]:
    """Artefacts below data/, what they are made from first."""
    text = study.file.data
    yield from (f"{paths.source(name)}/{manifest.NAME}" for name in text.components)
    yield from (f"{block.folder}/{manifest.NAME}" for block in study.blocks())
    yield from (f"{paths.pairs(group)}/{manifest.NAME}" for group in range(study.part_count))
    fixed = (paths.CLUSTERS, paths.TOKENIZER, paths.TASKS, paths.HELD_OUT)
    yield from (f"{folder}/{manifest.NAME}" for folder in fixed)
    for name, corpus in text.corpora.items():
        if corpus.external:
            yield f"{paths.external(name)}/{manifest.NAME}"
        if any(run.corpus == name for run in study.runs.values()):
            yield f"{paths.corpus(name)}/{manifest.NAME}"
    yield from dict.fromkeys(targets.orders(study))


def of_training(study: Study) -> Iterator[str]:
    """The manifests that rules of training make."""
    for run in study.trained:
        yield from (
            f"{paths.segment(run, segment)}/{manifest.NAME}" for segment in range(1, study.file.runtime.segments)
        )
        yield f"{paths.checkpoints(run)}/{manifest.NAME}"


def of_models(study: Study) -> Iterator[str]:
    """Models and what is made of each."""
    for stage in (CONVERT, *OF_MODELS):
        yield from stage.files(study)


def require(study: Study, *folders: Path) -> None:
    """Refuse to use artefacts, by their folders seen from the working directory, that are not the study's; raises
    UserError."""
    there = Artefacts(study)
    if stale := there.stale((folder / manifest.NAME).as_posix() for folder in folders):
        raise UserError("\n".join(told(stale)))


def _fault(why: list[str]) -> str:
    of_others = all(line.startswith(MADE_FROM) for line in why)
    return "not made from what the study has now" if of_others else "not made with the study's settings"


def told(stale: dict[str, list[str]]) -> list[str]:
    """A sentence per artefact, and how to have it made again."""
    lines = ["\n  ".join([f"{path}: {_fault(why)}", *brief(why)]) for path, why in stale.items()]
    return [*lines, "  give the study the settings back, or have it made again: rm " + " ".join(brief(list(stale)))]
