"""Token files joined end to end in a draft folder: published shards, or the pieces that tokenization made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.growing import STATE
from scripts.common.lock import hold
from scripts.data.megatron.onepass import Joined, Piece, one_pass


@contextmanager
def joined(
    pieces: Sequence[Piece],
    folder: Path,
    name: str,
    *,
    dtype: np.dtype,
    limit: int | None = None,
    sha256: str | None = None,
) -> Iterator[tuple[Path, Joined]]:
    """Join the pieces as `name` in a draft folder; at the end all files of the draft take their place in `folder`.

    Yields the draft, for the files that go with the joined one (a manifest.json is placed last), and what the pass
    saw. Killed at any moment and called again it goes on and ends with the same bytes: what was joined before is
    read again and its hashes compared. Raises UserError, with nothing in `folder` touched, for a piece that is
    missing, of another length or sha256, cut within a token, or has a token id outside [0, `limit`) (None: whatever
    `dtype` holds), for a whole of another `sha256`, for a disk too small, and while another process joins here.
    """
    work = folder / f".{name}.work"
    draft = work / "draft"
    with hold(work):
        _recover(draft, folder, name)
        result = one_pass(pieces, draft, name, dtype, limit)
        if sha256 not in (None, result.sha256):
            raise UserError(
                f"{folder / name}: the {len(pieces)} files joined have sha256 {result.sha256}\n  expected: {sha256}\n"
                "  files with a known hash have it; so a file without one, the order or the expected hash is wrong"
            )
        yield draft, result
        _place(draft, folder, name)
        shutil.rmtree(draft)
    with suppress(OSError):  # another process may be about to ask for the lock in it
        work.rmdir()


def _recover(draft: Path, folder: Path, name: str) -> None:
    """Take back what was killed while its files were being placed, so that it is checked and placed once more."""
    if not (draft / STATE).exists() or (draft / name).exists():
        return
    if (folder / name).exists() and not (folder / manifest.NAME).exists():
        (folder / name).rename(draft / name)
    else:
        shutil.rmtree(draft)


def _place(draft: Path, folder: Path, name: str) -> None:
    """Move the draft's files to their places, its manifest last: none ever stands beside files it doesn't name."""
    last = draft / manifest.NAME
    if last.exists():
        (folder / manifest.NAME).unlink(missing_ok=True)
    visible = [path for path in draft.iterdir() if not path.name.startswith(".")]
    others = sorted(path for path in visible if path.name not in (name, STATE, manifest.NAME))
    for path in (draft / name, *others, last):
        if path.exists():
            path.replace(folder / path.name)
