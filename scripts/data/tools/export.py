"""Export the sequences of the first steps as a preshuffled token file, as Pythia publishes its data."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.durable import STATE, Growing, made
from scripts.common.errors import UserError, explain
from scripts.common.files import BLOCK, atomic, sha256_file
from scripts.common.progress import progress
from scripts.data.megatron import shards
from scripts.data.megatron.indexed import bin_path, idx_path, index_blocks
from scripts.data.sequences import Sequences
from scripts.data.tools.view.source import Source, add_arguments, source_of
from scripts.study import paths
from scripts.study.manifests import ExportFacts, OrderFacts

NAME = "document"  # as the published files are called
COMMIT_SECONDS = 10.0  # a killed export loses at most about as much


@dataclass(frozen=True)
class Job:
    """Sequences [0, count) of the order in a folder.

    `digests` is uint8 [blocks, 32], the sha256 of every `block_sequences` of the order's `order_sequences`.
    """

    sequences: Sequences
    count: int
    subject: dict[str, Any]
    settings: dict[str, Any]
    order: Path
    digests: np.ndarray
    block_sequences: int
    order_sequences: int

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two exports the same one."""
        return {
            "subject": self.subject,
            "settings": self.settings,
            "parents": manifest.hashes([self.order]),
        }


def job_of(source: Source, steps: int) -> Job:
    """The first `steps` steps of an order; raises UserError if it has fewer."""
    if not 1 <= steps <= source.steps:
        raise UserError(explain("--steps", steps, f"1 to {source.steps}, the steps of the study's runs"))
    folder = paths.order(source.corpus, str(source.data_seed))
    content, digests = manifest.read(folder, OrderFacts), folder / "digests.npy"
    if not digests.is_file():
        raise UserError(f"{digests}: named by {folder / manifest.NAME} but missing; make the order again")
    count = steps * source.batch_size
    return Job(
        sequences=source.sequences,
        count=count,
        subject={"corpus": source.corpus, "data_seed": source.data_seed, "steps": steps},
        settings={**content.settings, "sequence_count": count, "batch_size": source.batch_size},
        order=folder,
        digests=np.load(digests, mmap_mode="r"),
        block_sequences=content.facts.digest_block_sequences,
        order_sequences=content.facts.sequence_count,
    )


def write_sequences(job: Job, grown: Growing, name: str) -> str:
    """Append the sequences to a growing file, going on after what is committed; returns the hex sha256 of all of it.

    Every block is checked against the order's digests; raises UserError where the corpus is no longer what it was.
    """
    done = int(grown.progress.get("sequences", 0))
    if done:
        print(f"{grown.folder}: going on after {done} sequences, which are hashed first", file=sys.stderr)
    digest = hashed(grown.folder / name)
    last = time.monotonic()
    with progress("sequences", job.count, "sequences", done) as tell:
        for start in range(done, job.count, job.block_sequences):
            stop = min(start + job.block_sequences, job.count)
            block = checked_block(job, start)[: stop - start].data.cast("B")
            digest.update(block)
            grown.write(name, block)
            if time.monotonic() - last > COMMIT_SECONDS:
                grown.commit({"sequences": stop})
                last = time.monotonic()
            tell(stop)
    grown.commit({"sequences": job.count})
    total: str = digest.hexdigest()
    return total


def checked_block(job: Job, start: int) -> np.ndarray:
    """The block of sequences that begins at `start`, whole, as the order digested it; raises UserError if it
    changed."""
    stop = min(start + job.block_sequences, job.order_sequences)
    block = np.ascontiguousarray(job.sequences.sequences(start, stop))
    if hashlib.sha256(block.data).digest() != job.digests[start // job.block_sequences].tobytes():
        raise UserError(
            f"{job.order / manifest.NAME}: sequences {start} to {stop - 1} no longer have the digest it names; corpus "
            "or order was damaged or replaced"
        )
    return block


def hashed(path: Path) -> Any:
    """A sha256 that has taken in what a file holds so far."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            digest.update(block)
    return digest


def is_finished(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether a folder holds just this export; raises UserError if it holds another one, or anything else."""
    path = folder / manifest.NAME
    if not folder.exists():
        return False
    if not folder.is_dir() or (not path.exists() and any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is no export; name a folder that doesn't exist yet")
    if not path.exists():
        return False
    there = manifest.verify(folder, ExportFacts, hash_below=0)
    if lines := manifest.differing({key: getattr(there, key) for key in identity}, identity):
        raise UserError(
            f"{folder}: holds a finished export of something else:\n  " + "\n  ".join(lines) + "\n"
            f"  name another folder, or drop it: rm -r {folder}"
        )
    return True


def export(job: Job, folder: Path, started: float) -> None:
    """Make the folder: document.bin, document.idx, sha256sum.txt and its manifest; what was killed is gone on with.

    Raises UserError if the disk is too small, or the folder holds something else.
    """
    width, dtype = job.sequences.sequence_length + 1, job.sequences.tokens.flat.dtype
    with made(folder, resume=True) as draft:
        data, index = bin_path(draft / NAME), idx_path(draft / NAME)
        with Growing(draft, [data.name], job.identity) as grown:
            check_space(draft, job.count * width * dtype.itemsize - data.stat().st_size)
            sums = {data: write_sequences(job, grown, data.name)}
        with atomic(index) as temporary, temporary.open("wb") as handle:
            sizes = np.broadcast_to(np.int32(width), (job.count,))  # takes no memory of its own
            handle.writelines(index_blocks(sizes, dtype))
        sums[index] = sha256_file(index)
        shards.write_hashes(draft / shards.NAME, {path.name: digest for path, digest in sums.items()})
        manifest.write(
            draft,
            ExportFacts(job.count, width, job.count * width, str(dtype)),
            subject=job.subject,
            settings=job.settings,
            files=[data, index, draft / shards.NAME],
            parents=[job.order],
            started=started,
            known=sums,
        )
        (draft / STATE).unlink()


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk can't hold; `needed` in bytes."""
    if (free := shutil.disk_usage(folder).free) < needed:
        raise UserError(f"{folder}: {needed / 1e9:.1f} GB are still to be written, {free / 1e9:.1f} GB are free there")


def main() -> None:
    parser = Parser(
        description="Write the sequences of the first N steps, in the order a run reads them, as a preshuffled token "
        "file: DIR/document.bin and document.idx with one sequence a row, as Pythia publishes its data, sha256sum.txt "
        "for `sha256sum --check`, and a manifest. Killed, the same command goes on where it was.",
    )
    add_arguments(parser, alone=False)
    parser.add_argument("--steps", type=int, required=True, help="steps from the beginning on")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    arguments = parser.parse_args()
    started = time.time()
    job = job_of(source_of(arguments), arguments.steps)
    if is_finished(arguments.out, job.identity):
        print(f"{arguments.out}: is already this export")
        return
    export(job, arguments.out, started)
    size = bin_path(arguments.out / NAME).stat().st_size
    print(f"{arguments.out}: {job.count} sequences of {job.sequences.sequence_length + 1} tokens, {size / 1e9:.3g} GB")
