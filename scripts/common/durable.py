"""What a kill leaves whole: a folder that is made elsewhere and renamed, by one writer at a time, and files that grow
over hours and are cut back to their last commit."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from scripts.common.errors import UserError
from scripts.common.files import canonical, read_json, write_json
from scripts.common.lock import hold
from scripts.common.manifest import differing


@contextmanager
def made(folder: Path, *, resume: bool = False) -> Iterator[Path]:
    """Yield a draft beside `folder` that takes its place at the end; a failed or killed one leaves it untouched.

    What a killed job left in the draft is dropped, or kept with `resume`. Raises UserError while another
    process makes the same folder.
    """
    work = folder.with_name(f".{folder.name}.work")
    with hold(work):
        draft = work / "draft"
        if not resume:
            shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(exist_ok=True)
        yield draft
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    with suppress(OSError):  # another process may be about to ask for the lock in it
        work.rmdir()


STATE = "progress.json"
WRITE_OUT = 1 << 27  # bytes after which the kernel is asked to start bringing them to the disk


class Growing:
    """Appends to files of a work folder; `commit` makes what was written so far survive anything.

    `progress` is what the last commit said, {} at the start: the caller goes on from there. Bytes written after
    the last commit are cut off on opening, so the files end as if nothing had happened in between. Raises
    UserError if the folder holds another work's progress (`subject`, plain data, differs) or files shorter than
    committed; with `drop_foreign`, for what is cheap to make again and nobody else's, another work's progress is
    dropped with a word. One writer at a time: whoever opens it holds a lock.
    """

    def __init__(self, folder: Path, names: list[str], subject: dict[str, Any], *, drop_foreign: bool = False) -> None:
        self.folder, self.subject = folder, json.loads(canonical(subject))  # as it will be read: tuples are lists
        self.drop_foreign = drop_foreign
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{STATE}.*.tmp"):  # of a commit that was killed
            left.unlink()
        state = self._state()
        self.progress: dict[str, Any] = state["progress"]
        lengths = {name: state["lengths"].get(name, 0) for name in names}
        self.files = {name: self._opened(name, length) for name, length in lengths.items()}
        self.waiting = dict.fromkeys(names, 0)

    def _state(self) -> dict[str, Any]:
        path = self.folder / STATE
        if not path.exists():
            return {"progress": {}, "lengths": {}}
        state: dict[str, Any] = read_json(path)
        if lines := differing(state["subject"], self.subject):
            if self.drop_foreign:
                print(f"{self.folder}: unfinished work on something else is dropped: {lines[0]}", file=sys.stderr)
                path.unlink()
                return {"progress": {}, "lengths": {}}
            raise UserError(
                f"{self.folder}: holds unfinished work on something else:\n  " + "\n  ".join(lines) + "\n"
                f"  to drop it: rm -r {self.folder}"
            )
        return state

    def _opened(self, name: str, length: int) -> BinaryIO:
        path = self.folder / name
        path.touch()
        if (found := path.stat().st_size) < length:
            raise UserError(f"{path}: {found} bytes, {length} were committed; to begin it again: rm -r {self.folder}")
        os.truncate(path, length)
        return path.open("ab")

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Append to one of the files."""
        file = self.files[name]
        self.waiting[name] += file.write(data)
        if self.waiting[name] >= WRITE_OUT:  # else a commit would begin with it, and wait for all
            begin, self.waiting[name] = file.tell() - self.waiting[name], 0
            os.posix_fadvise(file.fileno(), begin, 0, os.POSIX_FADV_DONTNEED)

    def commit(self, progress: dict[str, Any]) -> None:
        """Make everything written so far, and `progress` (plain data), permanent."""
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
        self._save({name: file.tell() for name, file in self.files.items()}, progress)

    def cut(self, lengths: dict[str, int], progress: dict[str, Any]) -> None:
        """Go back to a shorter length (bytes) of every file and the progress that belongs to it.

        Raises ValueError if a file is shorter than that.
        """
        for name, file in self.files.items():
            file.flush()
            if file.tell() < lengths[name]:
                raise ValueError(f"{name}: can't be cut to {lengths[name]} bytes, it has {file.tell()}")
        self._save(lengths, progress)  # first: a kill before the files are cut leaves that to the next opening
        for name, file in self.files.items():
            file.truncate(lengths[name])
            file.seek(lengths[name])
            self.waiting[name] = 0

    def _save(self, lengths: dict[str, int], progress: dict[str, Any]) -> None:
        write_json(self.folder / STATE, {"subject": self.subject, "lengths": lengths, "progress": progress})
        self.progress = progress

    def __enter__(self) -> Growing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self.files.values():
            file.close()
