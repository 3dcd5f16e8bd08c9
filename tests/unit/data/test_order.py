"""The order of a corpus and data seed: what the command writes, refuses and resumes, and NeoX's names for it."""

from __future__ import annotations

import copy
import hashlib
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.common import manifest
from scripts.common.durable import Growing
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_json, read_yaml
from scripts.data import order
from scripts.data.megatron.indexed import write_tokens
from scripts.data.order import known_order, write_order
from scripts.data.sequences import Sequences
from scripts.data.tools import cache_names
from scripts.operate.trained import check_orders
from scripts.study import fingerprints
from scripts.study.manifests import CorpusFacts, OrderFacts
from scripts.study.study import Study, parse
from tests.fakes import without_facts

TOKENS = {"folder": "x", "shards": "x.bin", "index": "x.idx"}


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> object:
    """Every loop over blocks has several of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_names, "BLOCK", 5)
        patch.setattr(order, "DIGEST_SEQUENCES", 7)
        patch.setattr(order, "BLOCKS_TOGETHER", 2)
        yield


def study_of(change: Callable[[dict[str, Any]], object] = lambda content: None) -> Study:
    """One run, pythia-160k of seed 1234: 13 steps of 4 sequences of 8 tokens of corpus `standard`."""
    content: dict[str, Any] = copy.deepcopy(read_yaml(ROOT / "config.yaml"))
    content["runs"] = [{"sizes": ["160k"], "corpora": ["standard"], "seeds": [1234], "vary": "both"}]
    content["training"] |= {"sequence_length": 8, "batch_size": 4, "steps": 13}
    content["memorization"] |= {"prompt": 4, "continuation": 4}
    content["data"] |= {"order": "neox", "max_epochs": None}
    change(content)
    return parse(content)


def published(content: dict[str, Any]) -> None:
    content["data"]["corpora"]["standard"] = {"deduplicate": "none", "external": TOKENS}


def feistel(content: dict[str, Any]) -> None:
    content["data"]["order"] = "feistel"


def external_feistel(content: dict[str, Any]) -> None:
    published(content)
    feistel(content)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[int]], Path]:
    """Writes data/standard/ with documents of these sizes, below the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(manifest, "code_revision", lambda: None)
    monkeypatch.setattr(fingerprints, "require", lambda *_: None)  # it stands for the corpus of any study

    def write(sizes: list[int]) -> Path:
        folder = Path("data/standard")
        random = np.random.default_rng(0)
        write_tokens(folder / "tokens", (random.integers(0, 2048, size) for size in sizes), 2048)
        manifest.write(folder, without_facts(CorpusFacts), subject={}, settings={})
        return folder

    return write


SIZES = [30, 1, 0, 44, 25, 80, 7, 13]  # 200 tokens, 24 whole sequences


def make(study: Study) -> OrderFacts:
    """What the command does for corpus `standard` and seed 1234; returns the facts."""
    return write_order(study, "standard", study.order_settings("standard", 1234), time.time())


@pytest.mark.parametrize("mode", ["neox", "feistel"])
def test_the_order_folder_says_what_it_holds(mode: str, corpus: Callable[[list[int]], Path]) -> None:
    folder = corpus(SIZES)
    facts = make(study_of(feistel if mode == "feistel" else lambda content: None))
    content = manifest.verify(folder / "order-1234", OrderFacts)
    maps = {"doc_idx.npy", "sample_idx.npy", "shuffle_idx.npy"} if mode == "neox" else set()
    assert set(content.files) == {"digests.npy", *maps}
    assert {path.name for path in (folder / "order-1234").iterdir()} == {
        *content.files,
        "manifest.json",
        "record.json",
    }
    assert content.facts == facts
    assert content.settings["order"] == facts.layout == mode
    assert (facts.documents, facts.tokens, facts.epochs) == (8, 200, 3)
    assert facts.sequence_count == {"neox": (3 * 200 - 1) // 8 - 1, "feistel": 3 * 24}[mode]
    assert not list(folder.glob(".order*"))


@pytest.mark.parametrize("mode", ["neox", "feistel"])
def test_digests_are_those_of_the_sequences_in_blocks(mode: str, corpus: Callable[[list[int]], Path]) -> None:
    folder = corpus(SIZES)
    facts = make(study_of(feistel if mode == "feistel" else lambda content: None))
    count = facts.sequence_count  # of three epochs, where the run reads 52
    sequences = Sequences.open(folder, 1234).sequences(0, count)
    wanted = [
        hashlib.sha256(sequences[start : start + 7].astype("<u2").tobytes()).digest() for start in range(0, count, 7)
    ]
    digests = np.load(folder / "order-1234/digests.npy")
    assert (digests.dtype, digests.shape) == (np.uint8, (-(-count // 7), 32))
    assert digests.tobytes() == b"".join(wanted)
    assert facts.digest == hashlib.sha256(b"".join(wanted)).hexdigest()
    assert facts.digest_block_sequences == 7


def test_the_order_of_a_seed_is_the_same_for_every_size_and_runtime(corpus: Callable[[list[int]], Path]) -> None:
    """Sizes, devices, threads and micro-batches enter nowhere: the manifest, digests included, is the same bytes."""

    def more_sizes(content: dict[str, Any]) -> None:
        content["runs"][0]["sizes"] = ["160k", "460k", "1.7m"]

    def other_runtime(content: dict[str, Any]) -> None:
        content["runtime"] |= {"micro_batch": 2, "threads": 3, "zero_stage": 0, "data_parts": 2}

    def other_batches(content: dict[str, Any]) -> None:
        content["training"] |= {"batch_size": 2, "steps": 26}

    def longer_run(content: dict[str, Any]) -> None:
        content["training"]["steps"] += 3  # within the same epochs: runs that are finished keep their order

    folder = corpus(SIZES)
    found = set()
    for change in (lambda content: None, more_sizes, other_runtime, other_batches, longer_run):
        make(study_of(change))
        found.add((folder / "order-1234/manifest.json").read_bytes())
    assert len(found) == 1
    sequences = Sequences.open(folder, 1234)
    for together in (1, 5, 52):  # in whatever portions it is read
        portions = [sequences.sequences(start, min(start + together, 52)) for start in range(0, 52, together)]
        assert np.concatenate(portions).tolist() == sequences.sequences(0, 52).tolist()


def die_at_second_commit(study: Study) -> None:
    """Makes the order and kills its own process in the middle of the second commit."""
    original, commits = Growing.commit, iter(range(10))

    def commit(work: Growing, progress: dict[str, Any]) -> None:
        if next(commits) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        original(work, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Growing, "commit", commit)
        make(study)


@pytest.mark.parametrize("mode", ["neox", "feistel"])
def test_a_killed_digest_goes_on_where_it_was(
    mode: str, corpus: Callable[[list[int]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus(SIZES)
    study = study_of(feistel if mode == "feistel" else lambda content: None)
    make(study)
    whole = (folder / "order-1234/manifest.json").read_bytes()
    (folder / "order-1234/manifest.json").unlink()
    child = multiprocessing.get_context("fork").Process(target=die_at_second_commit, args=(study,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    left = folder / ".order-1234.work/draft"
    assert read_json(left / "digesting/progress.json")["progress"] == {"blocks": 2}
    (left / ".doc_idx.npy.1.tmp").touch()
    blocks: list[int] = []
    original = order.block_digest

    def counted(sequences: Sequences, block: int, count: int) -> bytes:
        blocks.append(block)
        return original(sequences, block, count)

    monkeypatch.setattr(order, "block_digest", counted)
    monkeypatch.setattr(order, "write_maps", lambda *arguments: pytest.fail("the maps were there"))
    make(study)
    assert sorted(blocks) == list(range(2, -(-len(Sequences.open(folder, 1234)) // 7)))
    assert (folder / "order-1234/manifest.json").read_bytes() == whole
    assert not list(folder.glob("**/.*"))


def test_unfinished_work_on_another_order_is_dropped(
    corpus: Callable[[list[int]], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = corpus(SIZES)
    make(study_of(feistel))
    whole = (folder / "order-1234/manifest.json").read_bytes()
    shutil.rmtree(folder / "order-1234")
    child = multiprocessing.get_context("fork").Process(target=die_at_second_commit, args=(study_of(),))
    child.start()
    child.join()
    make(study_of(feistel))
    assert "unfinished work on something else is dropped: settings.order: 'neox' there" in capsys.readouterr().err
    assert (folder / "order-1234/manifest.json").read_bytes() == whole


@pytest.mark.parametrize("mode", ["neox", "feistel"])
def test_more_epochs_than_allowed_are_refused(mode: str, corpus: Callable[[list[int]], Path]) -> None:
    folder = corpus(SIZES)

    def at_most(most: int) -> Callable[[dict[str, Any]], None]:
        return lambda content: content["data"].update(order=mode, max_epochs=most)

    with pytest.raises(UserError) as caught:
        make(study_of(at_most(2)))
    more = " (GPT-NeoX lays out half a percent more sequences than asked)" if mode == "neox" else ""
    assert str(caught.value) == (
        f"corpus standard: pythia-160k asks for 52 sequences of 8 tokens; its 200 tokens give them in 3 epochs{more}\n"
        "data.max_epochs: 2 is not allowed\n"
        "  allowed: 3 or more; or more text, or fewer steps\n"
        "  write:   max_epochs: 3"
    )
    assert not (folder / "order-1234").exists()
    assert make(study_of(at_most(3))).epochs == 3


def test_too_little_text_for_a_sequence_is_refused(corpus: Callable[[list[int]], Path]) -> None:
    for sizes in ([8], [0, 0]):
        corpus(sizes)
        for change in (lambda content: None, feistel):
            with pytest.raises(UserError, match=f"a corpus of {sum(sizes)} tokens has no sequence of 9"):
                make(study_of(change))


def test_damaged_tokens_are_refused(corpus: Callable[[list[int]], Path]) -> None:
    folder = corpus(SIZES)
    index = folder / "tokens.idx"
    content = bytearray(index.read_bytes())
    content[34] += 1
    index.write_bytes(content)
    with pytest.raises(UserError, match=r"tokens\.idx: pointer 1 is 60, the sizes before it add up to 62"):
        make(study_of())


def test_a_seed_that_neox_cannot_take_is_refused() -> None:
    """NumPy's legacy random state takes 32 bits."""
    with pytest.raises(UserError, match=r"runs\.0\.seeds\.0: 4294967296 is not allowed"):
        study_of(lambda content: content["runs"][0].update(seeds=[2**32]))


def test_a_preshuffled_corpus_is_read_in_its_own_order(corpus: Callable[[list[int]], Path]) -> None:
    folder = corpus([9] * 60)
    for change in (published, external_feistel):
        facts = make(study_of(change))
        assert (facts.layout, facts.epochs, facts.sequence_count) == ("preshuffled", 1, 60)
        sequences = Sequences.open(folder, 1234)
        assert sequences.sequences(0, 60).ravel().tolist() == sequences.tokens.flat.tolist()
    assert make(study_of()).layout == "neox"  # documents made here may happen to be equally long


def test_a_preshuffled_corpus_of_other_sequences_is_refused(corpus: Callable[[list[int]], Path]) -> None:
    corpus([12] * 60)
    with pytest.raises(UserError, match=r"tokens\.idx: .* sequences of 12 tokens, which are for sequence_length 11"):
        make(study_of(published))
    corpus([9] * 51)
    with pytest.raises(UserError, match=r"file of 51 sequences, pythia-160k asks for 52; .* at most 51"):
        make(study_of(published))


def test_a_second_seed_of_a_preshuffled_corpus_is_refused(corpus: Callable[[list[int]], Path]) -> None:
    corpus([9] * 60)

    def two_seeds(content: dict[str, Any]) -> None:
        published(content)
        content["runs"][0]["seeds"] = [1234, 7]

    with pytest.raises(
        UserError, match=r"one order, so pythia-160k \(data seed 1234\) and pythia-160k-seed7 \(data seed 7\)"
    ):
        make(study_of(two_seeds))


def test_an_order_too_short_for_a_run_is_refused_at_the_start(corpus: Callable[[list[int]], Path]) -> None:
    corpus(SIZES)
    make(study_of())  # 13 steps; three epochs hold 73 sequences

    def steps(count: int) -> Study:
        return study_of(lambda content: content["training"].update(steps=count))

    check_orders(steps(18), Path())
    with pytest.raises(UserError, match=r"order-1234 holds 73 sequences, and a run of standard reads 76\n.*: rm data/"):
        check_orders(steps(19), Path())


def test_an_order_that_no_run_reads_is_refused() -> None:
    with pytest.raises(UserError, match="standard with seed 5"):
        known_order(study_of(), "standard", 5)


def test_cache_names_are_the_published_ones() -> None:
    """As in the hub's dataset EleutherAI/pile-preshuffled-seeds."""
    settings = {"sequence_length": 2048, "data_seed": 1234}
    names = cache_names.cache_names("pile_20B_tokenizer_text_document", settings, 143_000 * 1024)
    assert names["doc_idx"] == "pile_20B_tokenizer_text_document_train_0_indexmap_147164160ns_2048sl_1234s_doc_idx.npy"
    assert sorted(names) == ["doc_idx", "sample_idx", "shuffle_idx"]


def test_maps_get_cache_names_and_are_compared(corpus: Callable[[list[int]], Path], tmp_path: Path) -> None:
    folder = corpus(SIZES) / "order-1234"
    make(study_of())
    names = cache_names.cache_names("pile", cache_names.read_settings(folder, 52), 52)
    target = tmp_path / "cache"
    target.mkdir()
    for name, cached in names.items():
        for _ in range(2):  # a second time changes nothing
            cache_names.place(folder / f"{name}.npy", target / cached)
    assert all((target / cached).samefile(folder / f"{name}.npy") for name, cached in names.items())
    assert cache_names.compare(folder, target, "pile", 52) == []
    samples = np.load(target / names["sample_idx"])
    samples[6, 1] += 1
    (target / names["sample_idx"]).unlink()
    np.save(target / names["sample_idx"], samples)
    (target / names["doc_idx"]).unlink()
    np.save(target / names["doc_idx"], np.load(folder / "doc_idx.npy").astype(np.int64))
    first, second = cache_names.compare(folder, target, "pile", 52)
    assert first.endswith("doc_idx.npy: int64 (24,), ours is int32 (24,)")
    ours = np.load(folder / "sample_idx.npy")[6].tolist()
    assert second.endswith(f"sample_idx.npy: entry 6 is {[ours[0], ours[1] + 1]}, ours is {ours}")
    with pytest.raises(UserError, match=r"sample_idx\.npy: is there already and is not"):
        cache_names.place(folder / "sample_idx.npy", target / names["sample_idx"])
    with pytest.raises(UserError, match="no such file; did you mean --prefix for pile_train_0"):
        cache_names.compare(folder, target, "pail", 52)
    (target / names["doc_idx"]).write_bytes((folder / "doc_idx.npy").read_bytes()[:-4])
    with pytest.raises(UserError, match="not a whole"):
        cache_names.compare(folder, target, "pile", 52)


def test_an_order_without_maps_has_no_cache_names(corpus: Callable[[list[int]], Path]) -> None:
    folder = corpus(SIZES) / "order-1234"
    make(study_of(feistel))
    with pytest.raises(UserError, match="layout is 'feistel', which has no index maps"):
        cache_names.read_settings(folder, 52)
