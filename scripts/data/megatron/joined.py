"""Token files joined end to end in a draft folder: published shards, or the pieces that tokenization made.

One pass reads each byte once; hashing, looking and writing are done side by side."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import RawIOBase
from pathlib import Path
from types import TracebackType

import numpy as np

from scripts.common import manifest
from scripts.common.durable import STATE, Growing
from scripts.common.errors import UserError
from scripts.common.files import atomic
from scripts.common.lock import hold
from scripts.common.progress import progress

COMMIT_BYTES, COMMIT_SECONDS = 1 << 30, 30.0  # a killed job loses no more than comes first
MEGABYTE = 10**6


@dataclass(frozen=True)
class Piece:
    """A file to join, and what is known of it: hex sha256 and length in bytes."""

    path: Path
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Joined:
    """What the pass saw: bytes and hex sha256 of the whole, hex sha256 of each piece, and the tokens.

    `largest_token` is -1 if there is no token; `zeros` counts token 0, GPT-NeoX's end of document.
    """

    bytes: int
    sha256: str
    pieces: list[str]
    largest_token: int
    zeros: int


def check_pieces(pieces: Sequence[Piece], itemsize: int) -> list[int]:
    """Length of each piece in bytes; raises UserError if one is missing, not as long as known, or cut in a token."""
    sizes = []
    for piece in pieces:
        if not piece.path.is_file():
            raise UserError(f"{piece.path}: no such file; it is one of the {len(pieces)} to join")
        size = piece.path.stat().st_size
        if piece.bytes not in (None, size):
            raise UserError(f"{piece.path}: {size} bytes, expected {piece.bytes}; get it again")
        if size % itemsize:
            raise UserError(f"{piece.path}: {size} bytes are no whole number of {itemsize}-byte tokens; get it again")
        sizes.append(size)
    return sizes


def one_pass(pieces: Sequence[Piece], folder: Path, name: str, dtype: np.dtype, limit: int | None) -> Joined:
    """Join the pieces as `folder/name`, going on from what a killed pass left; see `joined.joined`."""
    sizes = check_pieces(pieces, dtype.itemsize)
    total = sum(sizes)
    subject = {"pieces": [[piece.path.as_posix(), size] for piece, size in zip(pieces, sizes, strict=True)]}
    with Growing(folder, [name], subject, drop_foreign=True) as grown, Lanes(4) as lanes:
        going = _Pass(pieces, sizes, grown, name, _Tokens(dtype, limit or int(np.iinfo(dtype).max) + 1), lanes)
        if (free := shutil.disk_usage(folder).free) < total - going.done:
            raise UserError(f"{folder}: {total - going.done} more bytes are needed, the disk has {free}; make room")
        if going.done:
            print(f"join {name}: the first {going.done} of {total} bytes are there, read again first", file=sys.stderr)
        whole = -(-total // MEGABYTE)
        with progress(f"join {name}", whole, "MB") as tell:
            result = going.run(lambda at: tell(min(at // MEGABYTE, whole - 1)))
            tell(whole)
    return result


@dataclass
class _Tokens:
    """Largest id and number of zeros among the tokens looked at; ids must lie in [0, limit)."""

    dtype: np.dtype
    limit: int
    largest: int = -1
    zeros: int = 0

    def look(self, block: memoryview, path: Path, begin: int) -> None:
        """Look at a block that stands at byte `begin` of a file; raises UserError for an id outside the limit."""
        ids = np.frombuffer(block, dtype=f"<u{self.dtype.itemsize}")  # unsigned: a negative id is beyond any limit
        largest = int(ids.max())
        if largest >= self.limit:
            place = int(np.argmax(ids >= self.limit))
            found = int(np.frombuffer(block, dtype=self.dtype)[place])
            place += begin // self.dtype.itemsize
            raise UserError(f"{path}: token {place} has the id {found}\n  allowed: 0 to {self.limit - 1}")
        self.largest = max(self.largest, largest)
        self.zeros += len(ids) - int(np.count_nonzero(ids))


@dataclass(frozen=True)
class _Span:
    """Bytes [begin, begin + count) of a file that go to the lanes; `written` if they are in the joined file already."""

    path: Path
    begin: int
    count: int
    written: bool


class _Pass:
    """One pass over all pieces; what was joined before comes from the joined file and is not written again.

    `at`: bytes seen; `hashes`: hex sha256 of the pieces seen; `stamps`: the pieces' modification times in ns, by
    which one that was written anew after a kill is known.
    """

    def __init__(
        self, pieces: Sequence[Piece], sizes: list[int], grown: Growing, name: str, tokens: _Tokens, lanes: Lanes
    ) -> None:
        self.pieces, self.sizes, self.grown, self.name = pieces, sizes, grown, name
        self.tokens, self.lanes = tokens, lanes
        self.stamps = [piece.path.stat().st_mtime_ns for piece in pieces]
        self.at, self.hashes, self.whole = 0, list[str](), hashlib.sha256()
        known = grown.progress.get("stamps", [])
        changed = next((number for number, stamp in enumerate(known) if stamp != self.stamps[number]), None)
        if changed is not None:
            self._cut(changed, grown.progress["hashes"])
        self.done: int = grown.progress.get("bytes", 0)
        self.before: list[str] = grown.progress.get("hashes", [])
        self.committed, self.moment = self.done, time.monotonic()

    def run(self, tell: Callable[[int], None]) -> Joined:
        """Go over the pieces; a refused one is cut off, so that it can be mended and joined."""
        for number, piece in enumerate(self.pieces):
            try:
                self.hashes.append(self._through(number, piece, tell))
            except UserError:
                self.lanes.settle()
                self._cut(number, self.hashes)
                raise
        self._commit(self.hashes)
        return Joined(self.at, self.whole.hexdigest(), self.hashes, self.tokens.largest, self.tokens.zeros)

    def _through(self, number: int, piece: Piece, tell: Callable[[int], None]) -> str:
        """See one piece; returns its hex sha256, which is as expected."""
        digest, begin = hashlib.sha256(), self.at
        old = min(self.sizes[number], max(0, self.done - begin))
        joined = self.grown.folder / self.name
        for span in (_Span(joined, begin, old, True), _Span(piece.path, old, self.sizes[number] - old, False)):
            with span.path.open("rb", buffering=0) as file:
                file.seek(span.begin)
                for block in self.lanes.blocks(file, span.path, span.count):
                    look = partial(self.tokens.look, path=piece.path, begin=self.at - begin)
                    write = None if span.written else partial(self.grown.write, self.name)
                    self.lanes.give(block, digest.update, self.whole.update, look, write)
                    self.at += len(block)
                    tell(self.at)
                    if write and self._due():
                        self.lanes.drain()
                        self._commit([*self.hashes, digest.hexdigest()])
            self.lanes.drain()
            if span.written and number < len(self.before) and self.before[number] != digest.hexdigest():
                raise UserError(
                    f"{joined}: bytes {begin} to {self.at} are not those that were written\n"
                    f"  run this again: it goes on from byte {begin}"
                )
        if piece.sha256 not in (None, digest.hexdigest()):
            raise UserError(
                f"{piece.path}: sha256 {digest.hexdigest()}\n  expected: {piece.sha256}\n"
                "  get it again and run this again: it goes on from this file"
            )
        return digest.hexdigest()

    def _due(self) -> bool:
        return self.at - self.committed >= COMMIT_BYTES or time.monotonic() - self.moment >= COMMIT_SECONDS

    def _commit(self, hashes: list[str]) -> None:
        """Make all that is seen permanent; `hashes` are of the pieces, the last one's of what is seen of it."""
        self.grown.commit({"bytes": self.at, "stamps": self.stamps[: len(hashes)], "hashes": hashes})
        self.committed, self.moment = self.at, time.monotonic()

    def _cut(self, number: int, hashes: list[str]) -> None:
        """Go back to where a piece begins."""
        length = sum(self.sizes[:number])
        kept = {"bytes": length, "stamps": self.stamps[:number], "hashes": hashes[:number]}
        self.grown.cut({self.name: length}, kept)


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


BLOCK = 1 << 22  # bytes; a multiple of every token's width, and little enough that lanes find it in the cache
AHEAD = 8  # blocks in memory: the slowest lane may fall that far behind the reader

Work = Callable[[memoryview], object]


class Lanes:
    """Threads that each do one kind of work on every block, in order.

    Hashing, numpy and file access release the interpreter's lock, so lanes run side by side. A buffer is filled
    again only when every lane is done with it, so memory stays at AHEAD blocks. What work raises comes out of a
    later block or of `drain`. Leaving the `with` waits for every lane.
    """

    def __init__(self, count: int) -> None:
        self.lanes = [ThreadPoolExecutor(1) for _ in range(count)]
        self.buffers: deque[tuple[bytearray, list[Future[object]]]] = deque((bytearray(), []) for _ in range(AHEAD))

    def blocks(self, file: RawIOBase, path: Path, count: int) -> Iterator[memoryview]:
        """The next `count` bytes of an unbuffered file, at most BLOCK at a time.

        Each is to be given to the lanes before the next is asked for. Raises UserError if the file ends early.
        """
        while count:
            buffer, working = self.buffers[0]
            _raised_by(working)
            if len(buffer) < min(BLOCK, count):
                buffer = bytearray(min(BLOCK, count))
                self.buffers[0] = (buffer, working)
            block = memoryview(buffer)[: min(BLOCK, count)]
            got = 0
            while got < len(block):
                if not (more := file.readinto(block[got:])):
                    raise UserError(f"{path}: ended {count - got} bytes too early; it changed while it was read")
                got += more
            yield block
            count -= got

    def give(self, block: memoryview, *work: Work | None) -> None:
        """Have each lane do its work on the block just read; None: nothing for that lane."""
        _, working = self.buffers[0]
        working += [lane.submit(task, block) for lane, task in zip(self.lanes, work, strict=True) if task]
        self.buffers.rotate(-1)

    def drain(self) -> None:
        """Wait until everything given is done; raises what work raised."""
        for _, working in self.buffers:
            _raised_by(working)

    def settle(self) -> None:
        """Wait until everything given is done, whatever it raised."""
        wait([future for _, working in self.buffers for future in working])

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for lane in self.lanes:
            lane.shutdown(cancel_futures=kind is not None)


def _raised_by(working: list[Future[object]]) -> None:
    for future in working:
        future.result()
    working.clear()


def copied(source: Path, target: Path, begin: int = 0, count: int | None = None) -> str:
    """Copy bytes [begin, begin + count) of a file (None: up to its end), atomically; returns the copy's hex sha256."""
    count = source.stat().st_size - begin if count is None else count
    digest = hashlib.sha256()
    with (
        atomic(target) as temporary,
        Lanes(2) as lanes,
        source.open("rb", buffering=0) as reading,
        temporary.open("wb") as writing,
    ):
        reading.seek(begin)
        for block in lanes.blocks(reading, source, count):
            lanes.give(block, digest.update, writing.write)
        lanes.drain()
    return digest.hexdigest()
