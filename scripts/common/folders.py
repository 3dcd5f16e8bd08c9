"""A folder that appears whole: made elsewhere and renamed, by one writer at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.common.lock import hold


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
