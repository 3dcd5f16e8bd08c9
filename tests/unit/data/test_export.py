"""Export of the first steps' sequences: the published format, resumed after a kill, nothing overwritten."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.files import read_json, sha256_file
from scripts.data import order
from scripts.data.megatron.indexed import index_blocks
from scripts.data.sequences import Sequences
from scripts.data.tools import export
from scripts.study.manifests import ExportFacts
from tests.unit.view_corpus import make, text

FILES = ["document.bin", "document.idx", "manifest.json", "record.json", "sha256sum.txt"]
Command = Callable[..., str]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of 24 steps of 4 sequences, 13 of which a run reads; its order has a digest every 7 sequences."""
    monkeypatch.setattr(order, "DIGEST_SEQUENCES", 7)
    monkeypatch.chdir(tmp_path)
    make([text(seed) for seed in range(12)])
    return tmp_path


@pytest.fixture
def command(corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["export", "--study", "study.json", "--corpus", "standard", *arguments])
        export.main()
        return capsys.readouterr().out

    return run


def test_an_export_is_the_preshuffled_file_of_the_sequences(command: Command, corpus: Path) -> None:
    assert "44 sequences of 9 tokens" in command("--steps", "11", "--out", "made/out")
    sequences = Sequences.open(Path("data/standard"), 1234)
    folder = Path("made/out")
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert (folder / "document.bin").read_bytes() == sequences.sequences(0, 44).tobytes()
    assert (folder / "document.idx").read_bytes() == b"".join(index_blocks(np.full(44, 9), np.dtype("<u2")))
    again = Sequences.of_file(folder / "document")
    assert (len(again), again.sequence_length) == (44, 8)
    assert again.sequences(0, 44).tolist() == sequences.sequences(0, 44).tolist()
    subprocess.run(["sha256sum", "--check", "--strict", "sha256sum.txt"], cwd=folder, check=True, capture_output=True)
    content = manifest.verify(folder, ExportFacts)
    assert content.subject == {"corpus": "standard", "data_seed": 1234, "steps": 11}
    parent = "data/standard/order-1234/manifest.json"
    assert content.parents == {parent: sha256_file(Path(parent))}
    assert (
        (content.settings["sequence_count"], content.settings["batch_size"])
        == (content.facts.sequence_count, 4)
        == (44, 4)
    )
    assert list(folder.parent.iterdir()) == [folder]  # nothing of the work is left


def test_a_finished_export_is_left_alone(command: Command, corpus: Path) -> None:
    command("--steps", "2", "--out", "out")
    before = (corpus / "out/document.bin").stat()
    assert "already this export" in command("--steps", "2", "--out", "out")
    with pytest.raises(
        UserError, match=r"(?s)settings\.sequence_count: 8 there, 12 asked.*subject\.steps: 2 there, 3 asked"
    ):
        command("--steps", "3", "--out", "out")
    assert (corpus / "out/document.bin").stat() == before


def test_a_folder_with_anything_else_is_left_alone(command: Command, corpus: Path) -> None:
    (corpus / "mine").mkdir()
    (corpus / "mine/notes.txt").write_text("keep")
    for there in ("mine", "mine/notes.txt"):
        with pytest.raises(UserError, match="is no export"):
            command("--steps", "2", "--out", there)
    assert (corpus / "mine/notes.txt").read_text() == "keep"
    (corpus / "empty").mkdir()
    command("--steps", "2", "--out", "empty")
    assert (corpus / "empty/manifest.json").exists()


def test_unfinished_work_on_something_else_is_not_mixed_in(
    command: Command, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(manifest, "write", killed)
        command("--steps", "5", "--out", "out")
    assert not (corpus / "out").exists()
    with pytest.raises(UserError, match=r"(?s)unfinished work on something else.*subject\.steps: 5 there, 6 asked"):
        command("--steps", "6", "--out", "out")
    command("--steps", "5", "--out", "out")
    assert (corpus / "out/document.bin").stat().st_size == 20 * 9 * 2


def test_a_corpus_that_changed_is_refused(command: Command, corpus: Path) -> None:
    path = corpus / "data/standard/tokens.bin"
    ids = np.fromfile(path, dtype=np.uint16)
    np.where(ids == ids[0], ids[1], ids).tofile(path)
    with pytest.raises(UserError, match=r"order-1234/manifest\.json: sequences \d+ to \d+ no longer have the digest"):
        command("--steps", "13", "--out", "out")
    assert not (corpus / "out").exists()


def test_the_last_block_is_checked_whole(command: Command, corpus: Path) -> None:
    digests = np.load("data/standard/order-1234/digests.npy")
    assert len(digests) == 14  # 96 sequences, the last block has 5
    wrong = digests.copy()
    wrong[7] ^= 1  # 49 to 55: 52 sequences end within it
    np.save("data/standard/order-1234/digests.npy", wrong)
    command("--steps", "12", "--out", "out")
    with pytest.raises(UserError, match="sequences 49 to 55 no longer"):
        command("--steps", "13", "--out", "all")


def test_mistakes_are_refused(command: Command, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for steps in ("0", "14"):
        with pytest.raises(UserError, match="1 to 13"):
            command("--steps", steps, "--out", "out")
    monkeypatch.setattr(export.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(UserError, match="GB are free there"):
        command("--steps", "13", "--out", "out")
    assert not (corpus / "out").exists()


def slow_export(folder: str) -> None:
    """Exports with a commit after every block, slowly, and notes the blocks it makes."""
    checked = export.checked_block

    def slow(job: export.Job, start: int) -> np.ndarray:
        block = checked(job, start)
        with Path("blocks.txt").open("a") as notes:
            notes.write(f"{start}\n")
        time.sleep(0.03)
        return block

    export.checked_block = slow
    export.COMMIT_SECONDS = 0.0
    sys.argv = ["export", "--study", "study.json", "--corpus", "standard", "--steps", "13", "--out", folder]
    export.main()


def test_a_killed_export_goes_on_with_the_same_bytes(command: Command, corpus: Path) -> None:
    command("--steps", "13", "--out", "whole")
    progress, notes = corpus / ".out.work/draft/progress.json", corpus / "blocks.txt"
    context = multiprocessing.get_context("fork")
    for enough in (2, 4):
        child = context.Process(target=slow_export, args=("out",))
        child.start()
        deadline = time.monotonic() + 20
        while not (progress.exists() and read_json(progress)["progress"].get("sequences", 0) >= 7 * enough):
            assert time.monotonic() < deadline and child.is_alive()
            time.sleep(0.002)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        assert not (corpus / "out").exists()
    with (corpus / ".out.work/draft/document.bin").open("ab") as data:
        data.write(b"torn")  # what a kill may leave behind the last commit
    done = read_json(progress)["progress"]["sequences"]
    notes.unlink()
    child = context.Process(target=slow_export, args=("out",))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert [int(line) for line in notes.read_text().split()] == list(range(done, 52, 7))  # not from the beginning
    for name in ("document.bin", "document.idx", "sha256sum.txt", "manifest.json"):
        assert (corpus / "out" / name).read_bytes() == (corpus / "whole" / name).read_bytes()
    data_hash = hashlib.sha256((corpus / "out/document.bin").read_bytes()).hexdigest()
    assert (corpus / "out/sha256sum.txt").read_text().startswith(f"{data_hash}  document.bin\n")
    assert not (corpus / ".out.work").exists()
