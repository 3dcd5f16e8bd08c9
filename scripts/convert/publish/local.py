"""Publication on this machine: as huggingface_hub's cache, and as one folder a revision."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from scripts.common.files import write_json, write_text
from scripts.common.lock import hold
from scripts.convert.publish.revisions import MAIN, File, Revision, intact, place, read_listing, refuse_changes

LISTING = "revisions.json"


def named(revisions: list[Revision], last: int) -> dict[str, Revision]:
    """Revisions by the names they are published under; `main` is the run's last step."""
    by_name = {revision.name: revision for revision in revisions}
    of_last = [revision for revision in revisions if revision.step == last]
    return by_name | {MAIN: of_last[0]} if of_last else by_name


def to_cache(root: Path, repo: str, wanted: dict[str, Revision], replace: bool) -> Path:
    """Write refs, snapshots and blobs as huggingface_hub lays them out, so that from_pretrained finds them offline.

    A blob is a hard link to the model's file, or a copy on another disk; refs are written last. What is whole is kept.
    """
    home = root / ("models--" + repo.replace("/", "--"))
    with hold(root / ".locks" / f"castalia--{home.name}"):
        refs = {name: home / "refs" / name for name in wanted}
        changed = [name for name, path in refs.items() if path.exists() and path.read_text() != wanted[name].commit]
        refuse_changes(str(home), changed, replace)
        for revision in {held.commit: held for held in wanted.values()}.values():
            snapshot = home / "snapshots" / revision.commit
            for name, file in revision.files.items():
                blob = home / "blobs" / etag(file)
                if not intact(file, blob):
                    place(file, blob)
                _link(blob, snapshot / name, file)
        for name, path in refs.items():
            if not path.exists() or path.read_text() != wanted[name].commit:
                write_text(path, wanted[name].commit)
    return home


def etag(file: File) -> str:
    """The hub's name of a blob: sha256 of a large file, git's own sha1 of a small one."""
    if file.path.suffix in (".safetensors", ".bin"):
        return file.sha256
    return git_sha1(file.path)


def git_sha1(path: Path) -> str:
    """git's id of a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def _link(blob: Path, target: Path, file: File) -> None:
    """Point a snapshot's file to its blob; where there are no symbolic links, it is the file itself."""
    target.parent.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(blob, target.parent)
    if target.is_symlink() and str(target.readlink()) == relative:
        return
    with suppress(FileNotFoundError):
        target.unlink()
    try:
        target.symlink_to(relative)
    except OSError:
        place(file, target)


def to_folder(root: Path, repo: str, wanted: dict[str, Revision], replace: bool) -> Path:
    """Write <root>/<owner>/<name>/<revision>/ and, last, revisions.json: commit and hashes of every revision."""
    home = root / repo
    with hold(home.with_name(f".{home.name}.lock")):
        known = read_listing(home / LISTING)
        changed = [name for name, revision in wanted.items() if _holds_another(home / name, revision, known.get(name))]
        refuse_changes(str(home), changed, replace)
        for name in changed:
            shutil.rmtree(home / name)
        for name, revision in wanted.items():
            for path, file in revision.files.items():
                if not intact(file, home / name / path):
                    place(file, home / name / path)
        listing = {name: described(revision) for name, revision in wanted.items()}
        write_json(home / LISTING, known | listing)
    return home


def _holds_another(folder: Path, revision: Revision, listed: dict[str, str] | None) -> bool:
    """Whether a revision's folder was published as another one, or holds files of another that was cut off.

    What a killed write left, `.<name>.<process>.tmp`, is taken away.
    """
    if not folder.exists():
        return False
    if listed is not None and listed.get("commit") != revision.commit:
        return True
    for path in folder.rglob(".*.tmp"):
        path.unlink()
    return any(
        path.relative_to(folder).as_posix() not in revision.files for path in folder.rglob("*") if not path.is_dir()
    )


def described(revision: Revision) -> dict[str, object]:
    """A revision in revisions.json."""
    files = {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in sorted(revision.files.items())}
    return {"commit": revision.commit, "step": revision.step, "files": files}
