"""The viewer: which sequences a step is, their ids, their text in the terminal and on a page, and what it refuses."""

from __future__ import annotations

import html.parser
import json
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from scripts.common.errors import UserError
from scripts.common.files import read_json, write_json
from scripts.data.megatron.indexed import bin_path, idx_path, index_blocks
from scripts.data.sequences import Sequences
from scripts.data.tokenizer import train
from scripts.data.tools.view import view
from scripts.data.tools.view.page import page_of
from scripts.data.tools.view.source import readers, span_of
from scripts.data.tools.view.text import Vocabulary, bytes_of_symbols, on_a_line, visible
from scripts.study.study import parse
from tests.unit.view_corpus import ROOT, VOCABULARY, make, study_of, text

STUDY = ["--study", "study.json", "--corpus", "standard"]
Command = Callable[..., str]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rare = "".join(chr(0x4E00 + 97 * number) for number in range(100))  # tokens are parts of these characters
        make([*(text(seed) for seed in range(11)), "<b>bold & \x1b[31mred</b>" * 30, rare])
    return folder


@pytest.fixture
def command(corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the viewer in the corpus's folder and gives what it printed."""

    def run(*arguments: str) -> str:
        monkeypatch.chdir(corpus)
        monkeypatch.setattr(sys, "argv", ["view", *arguments])
        view.main()
        return capsys.readouterr().out

    return run


def rows_of(corpus: Path) -> Sequences:
    return Sequences.open(corpus / "data/standard", 1234)


# --- which sequences ---------------------------------------------------------------------------------


@given(
    start=st.integers(0, 9), length=st.integers(1, 9), batch=st.integers(1, 9), size=st.integers(1, 20), data=st.data()
)
def test_places_are_those_of_the_steps(start: int, length: int, batch: int, size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, batch - 1))
    sequences = range(first, data.draw(st.integers(first + 1, batch)))
    indices = list(view.spans(range(start, start + length), sequences, batch))
    wanted = [step * batch + sequence for step in range(start, start + length) for sequence in sequences]
    assert [index for span in indices for index in span] == wanted
    parts = list(view.blocks(indices, size))
    assert [index for part in parts for index in part] == wanted and max(map(len, parts)) <= size


def test_steps_mean_what_the_checkpoint_reads_next() -> None:
    assert view.meaning(range(512, 514)) == (
        "iterations 512 to 513, counted from 0: what the model at checkpoint step 512 reads next, "
        "up to checkpoint step 514"
    )
    assert view.meaning(range(3, 4)).startswith("iteration 3,")


def test_spans() -> None:
    assert span_of("--steps", "512:514", 600) == range(512, 514)
    assert span_of("--steps", "7", 600) == range(7, 8)
    assert (span_of("--sequences", ":3", 5), span_of("--sequences", "3:", 5)) == (range(0, 3), range(3, 5))
    for wrong in ("5:5", "6:5", "-1:2", "0:601", "x", "1:2:3", ""):
        with pytest.raises(UserError, match="--steps"):
            span_of("--steps", wrong, 600)


# --- ids ------------------------------------------------------------------------------------------


def test_ids_are_the_sequences_as_numpy_would_save_them(corpus: Path, command: Command, tmp_path: Path) -> None:
    told = command(*STUDY, "--steps", "5:8", "--ids", str(tmp_path / "sequences.npy"))
    sequences = rows_of(corpus).sequences(20, 32)
    assert sequences.dtype == np.uint16 and sequences.shape == (12, 9)
    np.save(tmp_path / "wanted.npy", sequences)
    assert (tmp_path / "sequences.npy").read_bytes() == (tmp_path / "wanted.npy").read_bytes()
    assert "12 sequences of standard, data seed 1234" in told and "checkpoint step 5 reads next" in told
    command(*STUDY, "--steps", "5:7", "--sequences", "1:3", "--ids", str(tmp_path / "some.npy"))
    assert np.load(tmp_path / "some.npy").tolist() == sequences[[1, 2, 5, 6]].tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sequences.npy", "some.npy", "wanted.npy"]


def test_ids_of_any_range_take_the_same_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "BLOCK_TOKENS", 1 << 15)
    prefix = preshuffled(tmp_path, sequences=2000, width=2049)
    sequences = Sequences.of_file(prefix)
    view.write_ids(tmp_path / "warm.npy", sequences, [range(1)])
    tracemalloc.start()
    view.write_ids(tmp_path / "sequences.npy", sequences, [range(2000)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "sequences.npy").stat().st_size == 128 + 2000 * 2049 * 2
    assert peak < 1 << 20  # of 8 MB


def preshuffled(folder: Path, sequences: int, width: int) -> Path:
    """A token file of sequences that are all token 0 and take no space."""
    prefix = folder / "document"
    with bin_path(prefix).open("wb") as handle:
        handle.truncate(sequences * width * 2)
    idx_path(prefix).write_bytes(b"".join(index_blocks(np.full(sequences, width), np.dtype("<u2"))))
    return prefix


def test_a_preshuffled_file_needs_no_study(corpus: Path, command: Command, tmp_path: Path) -> None:
    prefix = str(preshuffled(tmp_path, sequences=10, width=9))
    command("--tokens", prefix, "--batch-size", "3", "--steps", "2:3", "--ids", str(tmp_path / "sequences.npy"))
    assert np.load(tmp_path / "sequences.npy").shape == (3, 9)
    with pytest.raises(UserError, match="a part of 0:3"):  # a fourth batch would be cut short
        command("--tokens", prefix, "--batch-size", "3", "--steps", "3:4")
    with pytest.raises(UserError, match="leave out --study and --corpus"):
        command("--tokens", prefix, "--batch-size", "3", *STUDY, "--steps", "0:1")
    with pytest.raises(UserError, match="--batch-size 1024"):
        command("--tokens", prefix, "--steps", "0:1")
    with pytest.raises(UserError, match="it is a corpus of documents"):
        command("--tokens", "data/standard/tokens", "--batch-size", "3", "--steps", "0:1")


# --- text -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(corpus: Path) -> Tokenizer:
    return Tokenizer.from_file(str(corpus / "data/tokenizer/tokenizer.json"))


@given(ids=st.lists(st.integers(0, VOCABULARY - 1), max_size=30))
def test_tokens_decode_as_the_tokenizers_library_decodes_them(
    corpus: Path, tokenizer: Tokenizer, ids: list[int]
) -> None:
    vocabulary = Vocabulary.read(corpus / "data/tokenizer/tokenizer.json")
    assert vocabulary.decode(ids) == tokenizer.decode(ids, skip_special_tokens=False)


def test_byte_symbols() -> None:
    assert bytes_of_symbols("Ġthe") == b" the" and bytes_of_symbols("Ċ") == b"\n"
    assert bytes_of_symbols("æĹ¥") == "日".encode()
    assert bytes_of_symbols("   ") == b"   "  # an added token: its content as it is


def test_a_vocabulary_that_is_not_byte_level_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(UserError, match="no such file"):
        Vocabulary.read(path)
    write_json(path, {"model": {"vocab": {}}, "added_tokens": [], "decoder": {"type": "WordPiece"}})
    with pytest.raises(UserError, match="decoder is 'WordPiece'"):
        Vocabulary.read(path)
    for wrong in ("{", "[]", '{"model": {}}'):
        path.write_text(wrong)
        with pytest.raises(UserError, match=r"not a tokenizer\.json"):
            Vocabulary.read(path)


def test_a_token_that_the_tokenizer_lacks_is_refused(corpus: Path, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(train(["the theme"] * 9, 270).to_str())
    with pytest.raises(UserError, match=r"tokens 0 to 269; the corpus was made with another tokenizer"):
        command(*STUDY, "--steps", "0:13", "--sequences", "0:4", "--tokenizer", str(path))


def test_pieces_are_the_documents_text(corpus: Path) -> None:
    sequences = rows_of(corpus)
    vocabulary = Vocabulary.read(corpus / "data/tokenizer/tokenizer.json")
    source = view.Source(sequences, 4, 13, [], "standard", 1234)
    shown = view.shown_sequences(source, vocabulary, range(30))
    assert [(sequence.iteration, sequence.sequence) for sequence in shown[:5]] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 0),
    ]
    for sequence in shown:
        assert sum(piece.end - piece.begin for piece in sequence.pieces) == 9
        for piece in sequence.pieces:
            ids = sequences.tokens[piece.document]
            assert piece.text == vocabulary.decode(ids[piece.begin : piece.end].tolist())
            assert (piece.component, piece.size) == (("even", "odd")[piece.document % 2], len(ids))
            assert piece.origin == f"<file>#{piece.document}"
    assert any(
        "\ufffd" in piece.text for sequence in shown for piece in sequence.pieces
    )  # a character cut by a sequence's border


def test_the_terminal_shows_a_few_sequences_and_tells_so(command: Command) -> None:
    told = command(*STUDY, "--steps", "5:8")
    assert re.findall(r"iteration (\d+) \(step (\d+)\) · sequence (\d+) · sample index (\d+)", told) == [
        ("5", "6", "0", "20"),
        ("5", "6", "1", "21"),
    ]
    assert "2 of 12 sequences shown" in told
    assert re.search(r"^(even|odd) · <file>#\d+ · tokens \d+:\d+ of \d+$", told, re.MULTILINE)
    every = command(*STUDY, "--steps", "0:13", "--sequences", "0:4")
    assert len(re.findall("^iteration ", every, re.MULTILINE)) == 13 * 4 and "sequences shown" not in every
    assert "\x1b" not in every and "␛[31mred" in every.replace("\n", "")


def test_control_characters_are_shown_not_obeyed() -> None:
    assert visible("a\x00\x1b\x7f\x9b\u202e\n\tb") == "a␀␛␡\ufffd\ufffd\n\tb"
    assert on_a_line("a\r\n\tb") == "a␍⏎ b"


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.pieces: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes
        if tag == "pre":
            self.pieces.append("")

    def handle_data(self, data: str) -> None:
        if self.pieces and self.tags[-1] == "pre":
            self.pieces[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self.tags.append("/pre")


def test_the_page_stands_alone_and_shows_the_same_text(corpus: Path, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert "32 of 52 sequences" in command(*STUDY, "--steps", "0:13", "--html", str(path))
    command(*STUDY, "--steps", "0:13", "--sequences", "0:4", "--html", str(path))
    content = path.read_text(encoding="utf-8")
    page = Page(content)
    vocabulary = Vocabulary.read(corpus / "data/tokenizer/tokenizer.json")
    shown = view.shown_sequences(view.Source(rows_of(corpus), 4, 13, [], "standard", 1234), vocabulary, range(52))
    assert [piece.strip("\n") for piece in page.pieces] == [
        visible(piece.text).strip("\n") for sequence in shown for piece in sequence.pieces
    ]
    assert any("<b>bold &" in piece for piece in page.pieces) and "b" in page.tags  # the legend's own
    assert page.tags.count("b") == 2 and page.tags.count("section") == 52
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not {"src", "href"} & {name for name, _ in page.attributes} and "url(" not in content
    assert "prefers-color-scheme: dark" in content and "\x1b" not in content


def test_a_page_without_sequences_is_a_page() -> None:
    assert "</html>" in "".join(page_of([], "nothing", "none of 3 sequences"))


# --- whose sequences -----------------------------------------------------------------------------------


def test_a_mistyped_source_is_refused_with_what_there_is(command: Command, corpus: Path, tmp_path: Path) -> None:
    for arguments, told in (
        (["--study", "study.json", "--corpus", "standrd"], "--corpus standard"),
        ([*STUDY, "--seed", "7"], "1234, the data seeds of runs on standard"),
        ([*STUDY, "--run", "pythia-160k", "--seed", "7"], "1234, which pythia-160k reads"),
        (["--study", "study.json"], "--corpus standard"),
        (["--corpus", "standard"], "--study config.yaml"),
        ([*STUDY, "--batch-size", "4"], "goes with --tokens"),
    ):
        with pytest.raises(UserError, match=re.escape(told)):
            command(*arguments, "--steps", "0:1")
    with pytest.raises(UserError, match="a part of 0:13"):
        command(*STUDY, "--steps", "12:14")
    with pytest.raises(UserError, match="a folder; name the file"):
        command(*STUDY, "--steps", "0:1", "--ids", str(tmp_path))
    with pytest.raises(UserError, match="at most 3 are shown"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "MOST_SEQUENCES", 3)
        command(*STUDY, "--steps", "0:1", "--sequences", "0:4")


def test_the_order_of_another_study_is_refused(command: Command, corpus: Path, tmp_path: Path) -> None:
    there = len(rows_of(corpus))
    longer = study_of(steps=there // 4 + 1)[1]
    write_json(tmp_path / "other.json", longer)
    with pytest.raises(UserError, match=f"{there} sequences, and {4 * (there // 4 + 1)} are to be read"):
        command("--study", str(tmp_path / "other.json"), "--corpus", "standard", "--steps", "0:1")
    longer["data"]["order"] = "feistel"
    write_json(tmp_path / "other.json", longer)
    with pytest.raises(UserError, match="order: 'neox' there, 'feistel' asked"):
        command("--study", str(tmp_path / "other.json"), "--corpus", "standard", "--steps", "0:1")
    assert command("--study", "study.json", "--run", "pythia-160k", "--steps", "0:1")


def test_runs_of_one_order_that_differ_in_batch_size_are_told_apart() -> None:
    content = study_of()[1]
    content["runs"][0]["sizes"] = ["160k", "460k"]
    content["overrides"] = {"460k/*": {"batch_size": 8}}
    study = parse(content)
    with pytest.raises(UserError, match=r"4 \(pythia-160k\), 8 \(pythia-460k\)"):
        readers(study, "standard", None, None)
    assert [run.name for run in readers(study, None, None, "pythia-460k")] == ["pythia-460k"]


def test_looking_at_ids_imports_nothing_heavy() -> None:
    heavy = {"tokenizers", "rich", "pyarrow", "pydantic", "torch", "pandas"}
    code = f"import json, sys, scripts.data.tools.view.view; print(json.dumps(sorted({heavy!r} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_default_seed_is_the_first_runs(corpus: Path) -> None:
    content = read_json(corpus / "study.json")
    content["runs"][0]["seeds"] = [7, 1234]
    assert {run.data_seed for run in readers(parse(content), "standard", None, None)} == {7}
