"""A table of what somebody published: repository, revision, file, sha256; and what the table alone gives away.

Every fault is a sentence that names repository, revision and file. Hubs list sha256 of large files without a download,
so a suite of terabytes can be looked at in seconds.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.common.errors import UserError

COLUMNS = ("repo", "revision", "file", "sha256")
SHA256 = re.compile(r"[0-9a-f]{64}")
STEP = re.compile(r"(?:step|global_step)[-_]?(\d{1,18})", re.ASCII)
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.[^/]+)", re.ASCII)
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".msgpack", ".h5")
CONFIG = "config.json"
MAIN = "main"


@dataclass(frozen=True, order=True)
class Entry:
    """One file of one revision of one repository."""

    repo: str
    revision: str
    file: str
    sha256: str

    @property
    def where(self) -> str:
        """repo@revision/file."""
        return f"{self.repo}@{self.revision}/{self.file}"

    @property
    def is_weights(self) -> bool:
        """Whether the file holds weights, which no two steps of training share."""
        return self.file.endswith(WEIGHTS) and not self.file.endswith("training_args.bin")


def read_table(path: Path) -> list[Entry]:
    """The table's entries; lines that begin with # are skipped. Raises UserError that names line and fact."""
    if not path.is_file():
        raise UserError(f"--table: {path} does not exist")
    lines = path.read_text(encoding="utf-8").splitlines()
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        raise UserError(f"{path}: holds no table\n  write:   {','.join(COLUMNS)} as its first line")
    rows = [next(csv.reader([line])) for _, line in numbered]  # a line each: an open quote swallows no others
    if tuple(rows[0]) != COLUMNS:
        raise UserError(f"{path}: its columns are {','.join(rows[0])}\n  write:   {','.join(COLUMNS)}")
    entries: dict[tuple[str, str, str], Entry] = {}
    for (number, _), row in zip(numbered[1:], rows[1:], strict=True):
        if len(row) != len(COLUMNS) or not all(row) or not SHA256.fullmatch(row[3].lower()):
            raise UserError(f"{path}: line {number}: not repo, revision, file and 64 hex digits: {','.join(row)}")
        entry = Entry(row[0], row[1], row[2], row[3].lower())
        if any(part in ("", ".", "..") for name in row[:3] for part in name.split("/")):
            raise UserError(f"{path}: line {number}: {entry.where} leads out of its folder")
        if not entry.where.isprintable():
            raise UserError(f"{path}: line {number}: {entry.where!r} holds characters that can't be shown")
        key = entry.repo, entry.revision, entry.file
        if entries.setdefault(key, entry) != entry:
            raise UserError(f"{path}: line {number}: {entry.where} stands there twice with different sha256")
    if not entries:
        raise UserError(f"{path}: names no file")
    return list(entries.values())


def step_of(revision: str) -> int | None:
    """The step a revision is named after, as in step3000, or None."""
    match = STEP.fullmatch(revision)
    return int(match[1]) if match else None


def revisions(entries: Iterable[Entry]) -> dict[str, dict[str, dict[str, str]]]:
    """sha256 by repository, revision and file; revisions by step, those without one last."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.repo, _rank(entry.revision), entry.file)):
        found.setdefault(entry.repo, {}).setdefault(entry.revision, {})[entry.file] = entry.sha256
    return found


def _rank(revision: str) -> tuple[bool, int, str]:
    step = step_of(revision)
    return step is None, step or 0, revision


def step_aliases(entries: Iterable[Entry]) -> Iterator[str]:
    """Revisions of one repository that are named after the same step, as step8 and step08: a user gets one of them."""
    for repo, by_revision in revisions(entries).items():
        names: dict[int, list[str]] = {}
        for revision in by_revision:
            if (step := step_of(revision)) is not None:
                names.setdefault(step, []).append(revision)
        yield from (f"{repo}: {_few(same)} are all step {step}" for step, same in names.items() if len(same) > 1)


Allowed = set[frozenset[str]]


def allowed_pairs(texts: Iterable[str]) -> Allowed:
    """Pairs of revisions that may be equal, from texts like step0=step1; raises UserError."""
    pairs: Allowed = set()
    for text in texts:
        names = text.split("=")
        if len(names) != 2 or not all(names) or names[0] == names[1]:
            raise UserError(f"--same: {text!r} is not two revisions\n  write:   --same step0=step1")
        pairs.add(frozenset(names))
    return pairs


def same_weights(entries: list[Entry], allowed: Allowed) -> Iterator[str]:
    """Weights of one repository that stand in several revisions: whole checkpoints, or single shards of one."""
    for repo, by_revision in revisions(entries).items():
        weights = {
            name: {file: digest for file, digest in files.items() if Entry(repo, name, file, digest).is_weights}
            for name, files in by_revision.items()
        }
        for names, shared in _groups(weights, allowed | _main(by_revision)).items():
            whole = all(set(weights[name].values()) <= shared for name in names)
            told = _few(names)
            if whole:
                yield f"{repo}: {told} hold the same weights"
            else:
                files = sorted({file for name in names for file, digest in weights[name].items() if digest in shared})
                yield f"{repo}: {told} share {', '.join(files)}, though their other weights differ"


def _main(names: Iterable[str]) -> Allowed:
    """The branch `main`, which holds the last step: the pair, or nothing where one of them is not there."""
    listed = list(names)
    steps = [name for name in listed if step_of(name) is not None]
    return {frozenset((MAIN, steps[-1]))} if steps and MAIN in listed else set()


def _groups(weights: Mapping[str, Mapping[str, str]], allowed: Allowed) -> dict[tuple[str, ...], set[str]]:
    """Hashes by the revisions that hold them, of those that more than one does and that are not explained."""
    holders: dict[str, list[str]] = {}
    for name, files in weights.items():
        for digest in set(files.values()):
            holders.setdefault(digest, []).append(name)
    groups: dict[tuple[str, ...], set[str]] = {}
    for digest, names in holders.items():
        if len(names) > 1 and not (len(names) == 2 and frozenset(names) in allowed):
            groups.setdefault(tuple(names), set()).add(digest)
    return groups


def foreign_weights(entries: list[Entry]) -> Iterator[str]:
    """Weights that stand in several repositories: two sizes or seeds never share any."""
    holders: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.is_weights:
            holders.setdefault(entry.sha256, []).append(entry)
    groups: dict[tuple[str, ...], list[list[Entry]]] = {}
    for found in holders.values():
        repos = tuple(sorted({entry.repo for entry in found}))
        if len(repos) > 1:
            groups.setdefault(repos, []).append(found)
    for repos, shared in sorted(groups.items()):
        first = sorted(entry.where for entry in shared[0])
        more = f", and {len(shared) - 1} more files" if len(shared) > 1 else ""
        yield f"{' and '.join(repos)} share weights: {' = '.join(first)}{more}"


def missing_revisions(entries: list[Entry], steps: list[int] | None) -> Iterator[str]:
    """Steps of the schedule, or steps that other repositories of the table have, without a revision."""
    found = revisions(entries)
    having = {repo: {step for name in names if (step := step_of(name)) is not None} for repo, names in found.items()}
    wanted = set(steps) if steps is not None else set().union(*having.values())
    for repo, there in having.items():
        if missing := sorted(wanted - there):
            yield f"{repo}: no revision for {_few([f'step{step}' for step in missing])}"
        if steps is not None and (unknown := sorted(there - wanted)):
            yield f"{repo}: {_few([f'step{step}' for step in unknown])}: not in the schedule"


def uneven_files(entries: list[Entry]) -> Iterator[str]:
    """Revisions whose files are not those of the repository's others, or whose shards are not complete."""
    for repo, by_revision in revisions(entries).items():
        sets = {name: frozenset(files) for name, files in by_revision.items()}
        counts = Counter(sets.values())
        usual = max(counts, key=lambda names: (counts[names], len(names)))
        for name, files in sets.items():
            if lacks := sorted(usual - files):
                yield f"{repo}@{name}: lacks {', '.join(lacks)}, which other revisions have"
            if extra := sorted(files - usual):
                yield f"{repo}@{name}: has {', '.join(extra)}, which other revisions have not"
            yield from (f"{repo}@{name}: {fault}" for fault in shard_faults(files))


def shard_faults(files: Iterable[str]) -> Iterator[str]:
    """Numbers that are missing among shards <name>-<i>-of-<n>.<ending>, and two counts of one name."""
    found: dict[tuple[str, str], dict[int, set[int]]] = {}
    for file in files:
        if match := SHARD.fullmatch(file):
            name, number, count, ending = match.groups()
            found.setdefault((name, ending), {}).setdefault(int(count), set()).add(int(number))
    for (name, ending), counts in sorted(found.items()):
        if len(counts) > 1:
            yield f"{name}*{ending} are shards of {' and of '.join(map(str, sorted(counts)))}"
        for count, numbers in sorted(counts.items()):
            if missing := sorted(set(range(1, count + 1)) - numbers):
                yield f"{name}*{ending}: shards {', '.join(map(str, missing))} of {count} are missing"


def other_configs(entries: list[Entry]) -> Iterator[str]:
    """Revisions whose config.json is not that of most of the repository's revisions."""
    for repo, by_revision in revisions(entries).items():
        configs = {name: files[CONFIG] for name, files in by_revision.items() if CONFIG in files}
        if len(set(configs.values())) < 2:
            continue
        counts = Counter(configs.values())
        usual = max(counts, key=lambda digest: (counts[digest], digest))
        odd = [name for name, digest in configs.items() if digest != usual]
        yield f"{repo}: {CONFIG} of {_few(odd)} is not that of the other {len(configs) - len(odd)} revisions"


def _few(names: Iterable[str]) -> str:
    """Names, the middle ones left out where there are many."""
    listed = list(names)
    if len(listed) <= 8:
        return ", ".join(listed)
    return f"{', '.join(listed[:4])} .. {', '.join(listed[-3:])} ({len(listed)})"
