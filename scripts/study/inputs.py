"""What a study's artefacts are made from, where no pattern says so but the study: inputs of its rules."""

from __future__ import annotations

from pathlib import Path

from scripts.common import manifest
from scripts.study import paths
from scripts.study.study import Study
from scripts.study.texts import holdable, matching, within


def component(study: Study, name: str) -> list[str]:
    """Files on disk a component is read from; an archive has none before it is fetched."""
    patterns = study.file.data.components[name].files or []
    return holdable(path for pattern in patterns for path in matching(pattern))


def tokenizer(study: Study) -> list[str]:
    """The file a tokenizer is taken from, if it is one on disk."""
    return holdable(matching(study.file.data.tokenizer.file or ""))


def documents(study: Study, part: int | None = None) -> list[str]:
    """Manifests of all documents, or of those of one part."""
    return [f"{block.folder}/{manifest.NAME}" for block in study.blocks() if part in (None, block.part)]


def joined(study: Study, corpus: str) -> list[str]:
    """What a corpus is joined from: published files, or the pieces of its parts and what they were made from."""
    asked = study.file.data.corpora.get(corpus)  # the held-out split is none of them
    if asked and asked.external:
        return [f"{paths.external(corpus)}/{manifest.NAME}"]
    pieces = [str(paths.pieces(corpus, part)) for part in range(study.part_count)]
    folders = (paths.CLUSTERS, paths.TOKENIZER)
    return [*pieces, *documents(study), *(f"{folder}/{manifest.NAME}" for folder in folders)]


def external(study: Study, corpus: str) -> list[str]:
    """Token files on disk that a corpus is joined from; those of the hub are not there before they are downloaded."""
    published = study.file.data.corpora[corpus].external
    if published is None or published.folder is None:
        return []
    found = [path for pattern in (published.shards, published.index) for path in within(published.folder, pattern)]
    return holdable([*found, *matching(published.hashes or "")])


def before(study: Study, run: str, segment: int) -> list[str]:
    """What a segment resumes from: the one before, or an intervention's parent; nothing for a run's first."""
    return [f"{paths.segment(run, segment - 1)}/{manifest.NAME}"] if segment > 1 else study.ancestors(run)


def published_scores(study: Study) -> list[str]:
    """Files of the published scores that are shown beside the study's."""
    place = study.file.evaluation.external
    if place is None or not Path(place).exists():  # refused at the start
        return []
    return holdable(Path(place).rglob("*.json") if Path(place).is_dir() else [place])
