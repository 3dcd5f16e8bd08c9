"""Blocks of a file, read once and worked on by several threads: hashing, looking, writing at the same time."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from io import RawIOBase
from pathlib import Path
from types import TracebackType

from scripts.common.errors import UserError
from scripts.common.files import atomic

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
