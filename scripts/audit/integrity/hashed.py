"""Files against the hashes their manifests name: read in parallel, each file once, in blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scripts.audit.integrity.found import RECORD, RESULTS, SAMPLES, Folder
from scripts.audit.suite_lock import PLAIN
from scripts.audit.verdict import Check, judged
from scripts.common import manifest
from scripts.common.progress import progress
from scripts.study import paths
from scripts.study.inventory import Inventory
from scripts.study.manifests import ResumeFacts

LOADED = (paths.checkpoint("*", "*"), paths.TOKENIZER, paths.exported("*", "*"), paths.model("*", "*"))
CARD = ("README.md", "figures")  # in a folder that a published revision was downloaded to
EXPORTS = paths.measurement("*", "*[0-9]")  # not the records beside them
TABLES = tuple(place("*", form) for place in (paths.table, paths.science) for form in ("csv", "parquet"))
FILES = (*(stage.glob for stage in RESULTS), SAMPLES, EXPORTS, *TABLES, paths.STUDY)


@dataclass(frozen=True)
class Named:
    """What a manifest says of a file."""

    sha256: str
    size: int
    by: str


def named_files(folder: Folder) -> dict[str, Named]:
    """Every file a manifest names, by path. A file named twice differently is told by `disagreeing`."""
    return {
        f"{found.folder}/{name}": Named(said.sha256, said.bytes, found.path)
        for found in folder.manifests.values()
        for name, said in found.content.files.items()
    }


def artefacts(folder: Folder) -> list[str]:
    """Paths of all that makes up the suite and is there: manifests, the files they name, results, tables, the study.

    Facts of one execution (record.json, times, logs), what only serves to resume, and pages are none of it.
    """
    kept = {path for path, found in folder.manifests.items() if not isinstance(found.content.facts, ResumeFacts)}
    named = {path for path, said in named_files(folder).items() if said.by in kept}
    results = {path for pattern in FILES for path in folder.inventory.find(str(pattern))}
    return sorted(path for path in kept | named | results if PLAIN.fullmatch(path) and Path(path).is_file())


def sha256_files(files: Iterable[str], jobs: int) -> dict[str, str]:
    """sha256 of every file, one read an inode, `jobs` threads; hashing a block leaves the interpreter's lock.

    A file that can't be read has none.
    """
    places: dict[tuple[int, int], list[str]] = {}
    sizes: dict[tuple[int, int], int] = {}
    for path in files:
        about = Path(path).stat()
        places.setdefault((about.st_dev, about.st_ino), []).append(path)
        sizes[about.st_dev, about.st_ino] = about.st_size
    inodes = sorted(places, key=lambda inode: -sizes[inode])  # the largest first, so that no thread ends late
    sums: dict[str, str] = {}
    megabytes = 1 + sum(sizes.values()) // 10**6
    with ThreadPoolExecutor(jobs) as pool, progress("hash", megabytes, "MB") as tell:
        read = 0
        for inode, digest in zip(inodes, pool.map(lambda inode: _sha256(places[inode][0]), inodes), strict=True):
            if digest is not None:
                sums |= dict.fromkeys(places[inode], digest)
            read += sizes[inode]
            tell(read // 10**6)
        tell(megabytes)
    return sums


def _sha256(path: str) -> str | None:
    try:
        with Path(path).open("rb", buffering=0) as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:  # told by the checks, which know what the file is for
        return None


def check_files(folder: Folder, sums: dict[str, str]) -> Check:
    """Every file against its manifest; `sums` holds the sha256 of those that are there."""
    faults = list(folder.unreadable)
    named = named_files(folder)
    for path, said in named.items():
        if not PLAIN.fullmatch(path):
            faults.append(f"{path}: a lock holds paths of plain letters, digits and ._+=,@%/- only; rename it")
        if path not in sums:
            how = "can't be read" if Path(path).exists() else "missing"
            faults.append(f"{path}: named by {said.by} but {how}")
        elif (size := Path(path).stat().st_size) != said.size:
            faults.append(f"{path}: {size} bytes, {said.by} says {said.size}")
        elif sums[path] != said.sha256:
            faults.append(f"{path}: sha256 {sums[path]}, {said.by} says {said.sha256}")
    what = "Every file has the size and sha256 that its manifest names"
    total = sum(said.size for said in named.values())
    return judged(
        "files", what, faults, f"{len(named):,} files, {total / 1e9:.2f} GB, {len(folder.manifests)} manifests"
    )


def check_unnamed(folder: Folder) -> Check:
    """No file lies in a checkpoint, model, GGUF or tokenizer that its manifest does not name: loaders take any."""
    known = {*named_files(folder), *folder.manifests}
    places = [place for place in loaded(folder.inventory) if f"{place}/{manifest.NAME}" in folder.manifests]
    faults = [
        f"{path}: no file of {place}'s manifest" for place in places for path in beside(folder.inventory, place, known)
    ]
    what = "No checkpoint, model, GGUF or tokenizer holds a file its manifest does not name"
    return judged("unnamed", what, faults, f"{len(places):,} folders hold the files of their manifests")


def loaded(inventory: Inventory) -> Iterator[str]:
    """The folders whose files others load."""
    return (place for pattern in LOADED for place in inventory.find(f"{pattern}/"))


def beside(inventory: Inventory, place: str, known: Container[str]) -> Iterator[str]:
    """What lies below a folder and is not known, but for records, cards and their figures, and hidden files: no
    loader takes those. A link is never followed, so that one to a folder stands for itself."""
    for path in inventory.files(place):
        parts = path.removeprefix(f"{place}/").split("/")
        apart = parts[-1] == RECORD or any(part in CARD or part.startswith(".") for part in parts)
        if not apart and path not in known:
            yield path


def check_links(folder: Folder) -> Check:
    """No file stands for two artefacts, by a symbolic or a hard link, and none in an artefact's folder is a link.

    A scheduled checkpoint shares its files with the state to resume from of the same run and step, and no others.
    """
    owners = {path: said.by for path, said in named_files(folder).items()}
    owners |= {path: path for path in (*folder.manifests, *folder.results)}
    places: dict[tuple[int, int], list[str]] = {}
    for path in owners:
        if Path(path).exists():
            about = Path(path).stat()
            places.setdefault((about.st_dev, about.st_ino), []).append(path)
    faults = [
        f"{path}: a symbolic link, which another file may stand behind tomorrow"
        for path, owner in owners.items()
        if _linked(path, owner.count("/"))
    ]
    for names in places.values():
        alone = {path.replace("/resume/", "/", 1): path for path in sorted(names, reverse=True)}
        if len(alone) > 1:
            links = [path for path in alone.values() if _linked(path)]
            how = f"{links[0]} is a symbolic link" if links else "hard links"
            faults.append(f"{' and '.join(sorted(alone.values()))}: one file ({how})")
    what = "No artefact is a link to another's file"
    return judged("links", what, faults, f"{len(places):,} files, each its own")


def _linked(path: str, below: int = 1) -> bool:
    """Whether a symbolic link stands in a path below its first folders."""
    parts = Path(path).parts
    return any(Path(*parts[:depth]).is_symlink() for depth in range(below + 1, len(parts) + 1))


def records(folder: Folder) -> dict[str, Path]:
    """record.json of the executions that made the artefacts, by manifest, where there is one."""
    places = {path: Path(path).with_name(RECORD) for path in folder.manifests if path.endswith(manifest.NAME)}
    return {path: record for path, record in places.items() if record.is_file()}
