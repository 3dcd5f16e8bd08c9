"""Put the sequences of a corpus into the order of a data seed, and digest them: data/<corpus>/order-<seed>/."""

from __future__ import annotations

import hashlib
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.durable import STATE, Growing, made
from scripts.common.errors import UserError, explain
from scripts.common.files import atomic, sha256_file
from scripts.common.progress import progress
from scripts.data.megatron.index_maps import build_maps, epochs_needed, sequences_to_build
from scripts.data.megatron.indexed import Tokens, fixed_length, open_tokens
from scripts.data.sequences import MAPS, Sequences, placed
from scripts.study import fingerprints, paths
from scripts.study.manifests import CorpusFacts, OrderFacts
from scripts.study.study import Study, load

DIGEST_SEQUENCES = 1024  # sequences per block: a step of Pythia's
BLOCKS_TOGETHER = 128  # digested between two commits
LARGEST_SEED = 2**32 - 1  # of numpy's legacy generator


def layout_of(study: Study, corpus: str, tokens: Tokens, sequence_length: int) -> str:
    """How the corpus's sequences are placed: "preshuffled" if its published file holds sequences, else the study's
    data.order.

    Raises UserError for a file of sequences of another length.
    """
    file = study.file.data
    if file.corpora[corpus].external is None or (width := fixed_length(tokens)) is None or len(tokens) == 1:
        return file.order
    if width == sequence_length + 1:
        return "preshuffled"
    raise UserError(
        f"{paths.corpus(corpus)}/tokens.idx: a preshuffled file of sequences of {width} tokens, which are for "
        f"sequence_length {width - 1}\n"
        + explain("training.sequence_length", sequence_length, str(width - 1), f"{width - 1}")
    )


def epochs_of(layout: str, tokens: Tokens, sequence_length: int, sequences: int) -> int:
    """Passes over the corpus that an order of so many sequences is made of; raises UserError if it has no sequence at
    all."""
    total = len(tokens.flat)
    if total <= sequence_length:
        raise UserError(f"a corpus of {total} tokens has no sequence of {sequence_length + 1}; give it more text")
    if layout == "neox":
        return epochs_needed(total, sequence_length, sequences_to_build(sequences))
    return 1 if layout == "preshuffled" else -(-sequences // ((total - 1) // sequence_length))


def check_sequences(
    study: Study, corpus: str, layout: str, tokens: Tokens, length: int, asked: int, epochs: int
) -> None:
    """Refuse more epochs than the study allows, and what a preshuffled file can't give."""
    most = study.file.data.max_epochs
    readers = {name: run for name, run in study.runs.items() if run.corpus == corpus}
    longest = ", ".join(name for name, run in readers.items() if run.sequences == asked)
    if layout == "preshuffled":
        if asked > len(tokens):
            raise UserError(
                f"{paths.corpus(corpus)}/tokens.idx: a preshuffled file of {len(tokens)} sequences, {longest} asks for "
                f"{asked}; training.steps x training.batch_size may be at most {len(tokens)}"
            )
        by_seed = {run.data_seed: name for name, run in readers.items()}
        if len(by_seed) > 1:
            (first, one), (second, other), *_ = by_seed.items()
            raise UserError(
                f"{paths.corpus(corpus)}/tokens.idx: a preshuffled file has one order, so {one} (data seed {first}) "
                f"and {other} (data seed {second}) would read the same sequences; keep one data seed, or "
                "write: vary: weight"
            )
    elif most is not None and epochs > most:
        total = len(tokens.flat)
        more = " (GPT-NeoX lays out half a percent more sequences than asked)" if layout == "neox" else ""
        raise UserError(
            f"corpus {corpus}: {longest} asks for {asked} sequences of {length} tokens; its {total} tokens give them "
            f"in {epochs} epochs{more}\n"
            + explain(
                "data.max_epochs", most, f"{epochs} or more; or more text, or fewer steps", f"max_epochs: {epochs}"
            )
        )


def known_order(study: Study, corpus: str, data_seed: int) -> None:
    """Refuse an order that no run of the study reads; raises UserError naming those that are read."""
    read = {(run.corpus, run.data_seed) for run in study.runs.values()}
    if (corpus, data_seed) not in read:
        allowed = ", ".join(f"{name} with seed {seed}" for name, seed in sorted(read))
        raise UserError(explain("order", f"{corpus} with seed {data_seed}", f"{allowed}; no other is read by a run"))


def write_maps(folder: Path, tokens: Tokens, settings: dict[str, Any], asked: int) -> None:
    """Write GPT-NeoX's index maps for so many sequences into the folder, each atomically; raises UserError."""
    seed = settings["data_seed"]
    if seed > LARGEST_SEED:
        raise UserError(explain("data seed", seed, f"1 to {LARGEST_SEED}, as GPT-NeoX's generator takes no other"))
    try:
        maps = build_maps(tokens.sizes, settings["sequence_length"], asked, seed)
    except OverflowError as error:
        raise UserError(f"corpus {settings['corpus']}: {error}; write: order: feistel") from None
    for name, values in zip(MAPS, maps, strict=True):
        with atomic(folder / f"{name}.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, values)


def block_digest(sequences: Sequences, block: int, count: int) -> bytes:
    """sha256 over the bytes, in the tokens' dtype, of sequences [block * 1024, (block + 1) * 1024) or up to `count`."""
    start = block * DIGEST_SEQUENCES
    return hashlib.sha256(sequences.sequences(start, min(start + DIGEST_SEQUENCES, count)).data).digest()


def write_digests(sequences: Sequences, count: int, folder: Path, work: Growing, threads: int, title: str) -> str:
    """Digest sequences [0, count) block by block into <folder>/digests.npy, uint8 [blocks, 32]; returns the order's
    digest.

    That is the hex sha256 over the blocks' digests. `work` keeps those done when this is killed. The number of
    threads changes nothing.
    """
    blocks = -(-count // DIGEST_SEQUENCES)
    done = work.progress["blocks"]
    with ThreadPoolExecutor(threads) as pool, progress(title, count, "sequences", done * DIGEST_SEQUENCES) as tell:
        for start in range(done, blocks, BLOCKS_TOGETHER):
            stop = min(start + BLOCKS_TOGETHER, blocks)
            for digest in pool.map(lambda block: block_digest(sequences, block, count), range(start, stop)):
                work.write("digests", digest)
            work.commit({"blocks": stop})
            tell(min(stop * DIGEST_SEQUENCES, count))
    digests = np.fromfile(work.folder / "digests", dtype=np.uint8).reshape(blocks, -1)
    with atomic(folder / "digests.npy") as temporary, temporary.open("wb") as handle:
        np.save(handle, digests)
    return hashlib.sha256(digests.data).hexdigest()


def write_order(study: Study, corpus: str, settings: dict[str, Any], started: float) -> OrderFacts:
    """Make data/<corpus>/order-<seed>/, its manifest last; returns the manifest's facts. Raises UserError.

    It holds whole epochs, as many as the longest run needs, and how many sequences that run reads is not in it: a
    longer run beside finished ones finds its sequences there, unless it needs one epoch more
    (scripts/operate/preflight.py).
    """
    home, seed, length = paths.corpus(corpus), settings["data_seed"], settings["sequence_length"]
    asked = study.order_sequences(corpus, seed)
    manifest.read(home, CorpusFacts)
    fingerprints.require(study, home)
    tokens = open_tokens(home / "tokens", thorough=True)
    layout = layout_of(study, corpus, tokens, length)
    epochs = epochs_of(layout, tokens, length, asked)
    check_sequences(study, corpus, layout, tokens, length, asked, epochs)
    subject = {"settings": settings, "corpus": sha256_file(home / manifest.NAME)}
    with made(paths.order(corpus, seed), resume=True) as draft:
        with Growing(draft / "digesting", ["digests"], subject, drop_foreign=True) as work:
            if "blocks" not in work.progress:
                if layout == "neox":
                    write_maps(draft, tokens, settings, asked)
                work.commit({"blocks": 0})
            sequences = Sequences(tokens, placed(layout, tokens, draft, length, seed, epochs))
            title = f"order {corpus}-{seed}"
            digest = write_digests(sequences, len(sequences), draft, work, study.file.runtime.threads, title)
        for leftover in draft.glob(".*.tmp"):  # of a killed try
            leftover.unlink()
        facts = OrderFacts(
            layout=layout,
            documents=len(tokens),
            tokens=len(tokens.flat),
            epochs=epochs,
            sequence_count=len(sequences),
            digest=digest,
            digest_block_sequences=DIGEST_SEQUENCES,
        )
        names = [*MAPS, "digests"] if layout == "neox" else ["digests"]
        manifest.write(
            draft,
            facts,
            subject={"corpus": corpus, "data_seed": seed},
            settings=settings,
            files=[draft / f"{name}.npy" for name in names],
            parents=[home],
            started=started,
        )
        (work.folder / STATE).unlink()  # first, so that a try killed here is not taken for damaged
        shutil.rmtree(work.folder)
    return facts


def main() -> None:
    parser = Parser(
        description="Put the sequences of a corpus into the order of one data seed, long enough for its longest run: "
        "data/<corpus>/order-<seed>/ with digests.npy (a hash of every 1024 sequences) and, for data.order: neox, the "
        "doc_idx, sample_idx and shuffle_idx that GPT-NeoX builds."
    ).takes("study")
    parser.add_argument("--corpus", required=True, help="name of a corpus of the study")
    parser.add_argument("--seed", type=int, required=True, help="data seed, e.g. 1234")
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    known_order(study, arguments.corpus, arguments.seed)
    settings = study.order_settings(arguments.corpus, arguments.seed)
    facts = write_order(study, arguments.corpus, settings, started)
    asked = study.order_sequences(arguments.corpus, arguments.seed)
    used = asked * settings["sequence_length"] / facts.tokens
    print(
        f"{paths.order(arguments.corpus, arguments.seed)}: {facts.layout}, {asked} of "
        f"{facts.sequence_count} sequences, {used:.2f} epochs of {facts.tokens} tokens"
    )
