"""User mistakes and damaged inputs, told in one message without a traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

FULL = (errno.ENOSPC, errno.EDQUOT)
WRONG_PLACE = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG)


class UserError(Exception):
    """A mistake the reader can mend; its text says what, what is allowed, and the fix."""


def explain(key: str, value: object, allowed: str, fix: str | None = None) -> str:
    """One refusal in the project's form: key, value, what is allowed, the corrected line."""
    text = f"{key}: {value!r} is not allowed\n  allowed: {allowed}"
    return text + (f"\n  write:   {fix}" if fix else "")


def near(name: str, known: list[str]) -> str | None:
    """The known name closest to a mistyped one, or None if none is close."""
    found = get_close_matches(str(name), known, n=1, cutoff=0.5)
    return found[0] if found else None


@contextmanager
def told_last(fix: str) -> Iterator[None]:
    """Around the writing of what was printed before: where it can't be written, UserError says so and the fix."""
    try:
        yield
    except OSError as error:
        if error.errno not in WRONG_PLACE:
            raise
        what = f"{error.filename}: {error.strerror}; what came out stands above, and is not written down"
        raise UserError(f"{what}\n  write:   {fix}") from None


@contextmanager
def connection_told() -> Iterator[None]:
    """Around downloads by huggingface_hub (2.4.0), whose threads share a client: where one of them reaches nobody it is
    closed under the others, and their RuntimeError is a lost connection too, so ConnectionError is raised."""
    try:
        yield
    except RuntimeError as error:
        if "client has been closed" not in str(error):
            raise
        raise ConnectionError(str(error)) from None


def run(main: Callable[[], None]) -> None:
    """Run a command's main; a UserError ends it with its text and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # `… --help | head` is not a mistake
        raise SystemExit(0) from None
    except OSError as error:
        if error.errno not in FULL + WRONG_PLACE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        then = "; make room and run it again, finished work is kept" if error.errno in FULL else ""
        print(f"error: {where}{error.strerror}{then}", file=sys.stderr)
        raise SystemExit(2) from None


def run_and_leave(main: Callable[[], None]) -> None:
    """As `run`, for a process that joined others through torch.distributed: ends it without taking Python down.

    gloo's threads live as long as their process group, to which DeepSpeed's modules refer until the end. One of them
    that lets go of a tensor while Python is being taken down aborts the process (exit code 134), though all its work
    is written: of 200 processes that held a group 2 did, of 200 that didn't none.
    """
    code = 0
    try:
        run(main)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
