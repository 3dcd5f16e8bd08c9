"""Finding texts: the token scan against decoding every document, and the steps that saw them against every sequence."""

from __future__ import annotations

import csv
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from scripts.common.errors import UserError
from scripts.data.megatron import index_maps
from scripts.data.megatron.indexed import Tokens, index_blocks
from scripts.data.placement import Cut, Mapped
from scripts.data.sequences import Sequences, placed
from scripts.data.tokenizer import END_OF_TEXT, train
from scripts.data.tools.find import find, search
from scripts.data.tools.find.search import Occurrences, Searcher
from scripts.data.tools.find.steps import Tally, seen
from scripts.data.tools.find.terms import LONGEST_TERM
from scripts.data.tools.view.text import Vocabulary
from tests.unit.view_corpus import VOCABULARY, WORDS, make, text

TEXTS = [text(seed) for seed in range(9)] + [
    "banana" * 7 + " " * 61 + "ananas",
    "",
    "日本\u3000日 a\u0308 ä",
    "aaaaaaa",
]
PIECES = [*WORDS, "a", "n", "an", " ", "本", "c", "fé", "\u0308", "\ud55c", "\n\n", END_OF_TEXT]

Command = Callable[..., str]


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """Every loop over blocks has several of them, and occurrences lie across their borders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "BLOCK", 13)
        patch.setattr(search, "SLICE", 5)
        patch.setattr(find, "TOGETHER", 7)
        patch.setattr(find, "TOLD_TOGETHER", 3)
        yield


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(TEXTS, VOCABULARY)


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    return Vocabulary.read(path)


def tokens_of(documents: list[list[int]], dtype: type = np.uint16) -> Tokens:
    sizes = np.array([len(document) for document in documents], dtype=np.int64)
    flat: np.ndarray = np.array([number for document in documents for number in document], dtype=dtype)
    return Tokens(flat, sizes.astype(np.int32), (np.cumsum(sizes) - sizes) * flat.itemsize, np.arange(len(sizes) + 1))


def tokens_of_texts(tokenizer: Tokenizer, texts: list[str]) -> Tokens:
    return tokens_of([encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)])


def slowly(tokenizer: Tokenizer, tokens: Tokens, term: str, word: bool) -> list[tuple[int, int, int]]:
    """(document, first character, end) of every occurrence, by decoding every document."""
    pattern = re.escape(unicodedata.normalize("NFC", term))
    if word:
        pattern = rf"(?<![^\W_]){pattern}(?![^\W_])"  # neither letter nor digit
    found = []
    for number in range(len(tokens)):
        content = tokenizer.decode(tokens[number].tolist(), skip_special_tokens=False)
        found += [(number, *match.span()) for match in re.finditer(pattern, content)]
        if not word:
            assert sum(document == number for document, *_ in found) == content.count(
                unicodedata.normalize("NFC", term)
            )
    return found


def quickly(
    tokenizer: Tokenizer, vocabulary: Vocabulary, tokens: Tokens, term: str, found: Occurrences, number: int
) -> list[tuple[int, int, int]]:
    """The occurrences of a term as characters; checks that no token more than needed is named."""
    size = len(unicodedata.normalize("NFC", term).encode())
    characters = []
    for index in np.flatnonzero(found.term == number).tolist():
        document, begin, end = int(found.document[index]), int(found.begin[index]), int(found.end[index])
        ids = tokens[document].tolist()
        first = len(vocabulary.join(ids[:begin])) + int(found.byte[index])
        assert first < len(vocabulary.join(ids[: begin + 1]))
        assert len(vocabulary.join(ids[: end - 1])) < first + size <= len(vocabulary.join(ids[:end]))
        whole = vocabulary.join(ids)
        characters.append((document, len(whole[:first].decode()), len(whole[: first + size].decode())))
    return characters


TERMS = st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join), min_size=1, max_size=5)


@settings(deadline=None, max_examples=150)
@given(
    texts=st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), min_size=1, max_size=6),
    terms=TERMS,
    word=st.booleans(),
)
@example(texts=TEXTS, terms=["ana", "aa", "  ", "   ", "a", "日", "ä", "the oracle", "\n"], word=False)
@example(texts=TEXTS, terms=["banana", "日", "ä", "a", "the", "Pythia"], word=True)
@example(texts=["ab", "cab", "", "c"], terms=["bc", "abc", "ca"], word=False)  # none across documents
def test_occurrences_are_those_of_the_decoded_documents(
    tokenizer: Tokenizer, vocabulary: Vocabulary, texts: list[str], terms: list[str], word: bool
) -> None:
    # a special token is found only as a whole, where decoding shows its characters: see the next test
    terms = [term for term in terms if END_OF_TEXT not in term] or ["a"]
    texts = [each.replace(END_OF_TEXT, "") for each in texts]
    tokens = tokens_of_texts(tokenizer, texts)
    found = Occurrences.join([_none(), *Searcher(tokens, vocabulary, terms, word=word).occurrences()])
    assert (np.diff(tokens.begin_of(found.document) + found.begin) >= 0).all()
    for number, term in enumerate(terms):
        wanted = slowly(tokenizer, tokens, term, word)
        assert quickly(tokenizer, vocabulary, tokens, term, found, number) == wanted


def _none() -> Occurrences:
    return Occurrences(*np.empty((5, 0), dtype=np.int64))


def test_special_tokens_are_found_only_as_a_whole(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    tokens = tokens_of_texts(tokenizer, ["a text", "", "b"])
    with_eod = tokens_of([[*tokens[number].tolist(), 0] for number in range(3)])
    counts = [
        sum(map(len, Searcher(with_eod, vocabulary, [term]).occurrences()))
        for term in ("text", END_OF_TEXT, "of", ">", "b" + END_OF_TEXT, "t<|end", "|>")
    ]
    assert counts == [1, 3, 0, 0, 1, 0, 0]


def test_every_term_of_many_is_found(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    drawn = [text(seed, words=3).strip() or "a" for seed in range(100, 220)]
    terms = list(dict.fromkeys(unicodedata.normalize("NFC", term) for term in drawn))
    tokens = tokens_of_texts(tokenizer, [*TEXTS, *drawn])
    searcher = Searcher(tokens, vocabulary, terms)
    assert len(searcher.sieves) > 1  # more than one word of bits
    found = Occurrences.join(list(searcher.occurrences()))
    for number, term in enumerate(terms):
        assert (found.term == number).sum() == len(slowly(tokenizer, tokens, term, False)) > 0


def test_tokens_that_hold_a_term_several_times(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.add_tokens([AddedToken("xyxyxy", normalized=True)])
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    tokens = tokens_of_texts(tokenizer, ["xyxyxyxyxyxyx y"])
    assert len(tokens.flat) < 6
    for term, count in (("xy", 6), ("yx", 6), ("xyxy", 3), ("xyx", 3), ("y", 7)):
        found = Occurrences.join(list(Searcher(tokens, Vocabulary.read(path), [term]).occurrences()))
        assert quickly(tokenizer, Vocabulary.read(path), tokens, term, found, 0) == slowly(
            tokenizer, tokens, term, False
        )
        assert len(found) == count


def test_a_long_term_over_many_blocks(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    whole = "".join(text(seed) for seed in range(40, 50)).strip()
    tokens = tokens_of_texts(tokenizer, ["x" + whole + "y", whole[:-1], whole])
    term = tokenizer.decode(tokens[2].tolist())
    assert 1000 < len(term.encode()) < LONGEST_TERM
    found = Occurrences.join(list(Searcher(tokens, vocabulary, [term]).occurrences()))
    assert found.document.tolist() == [0, 2]
    assert (found.begin[1], found.end[1]) == (0, len(tokens[2]))


@pytest.mark.parametrize(("ids", "dtype"), [([5, 400], np.uint16), ([5, -1], np.int32), ([5, 70_000], np.int32)])
def test_a_token_that_the_tokenizer_lacks_is_refused(vocabulary: Vocabulary, ids: list[int], dtype: type) -> None:
    searcher = Searcher(tokens_of([[5, 6], ids, [7] * 20], dtype), vocabulary, ["zz"])
    with pytest.raises(UserError, match=rf"token {ids[1]}: .* has tokens 0 to 329"):
        list(searcher.occurrences())


# --- which steps saw them -------------------------------------------------------------------------


def order_of(sizes: list[int], length: int, layout: str, seed: int) -> Sequences:
    tokens = tokens_of([[0] * size for size in sizes])
    if layout == "neox":
        samples = 2 * sum(sizes) // length  # needs two epochs or three
        return Sequences(tokens, Mapped(tokens, *index_maps.build_maps(tokens.sizes, length, samples, seed), length))
    return Sequences(tokens, placed("feistel", tokens, Path(), length, seed, epochs=2))


def occurrences_of(spans: list[tuple[int, int, int]]) -> Occurrences:
    """One term's, by (document, begin, end)."""
    document, begin, end = np.array(spans, dtype=np.int64).T
    zeros = np.zeros(len(spans), dtype=np.int64)
    return Occurrences(zeros, document, begin, end, zeros)


def slowly_seen(sequences: Sequences, span: tuple[int, int, int]) -> list[tuple[int, bool]]:
    """(sample index, whole) of sequences that hold a span whole, or, for each copy that none does, parts of it."""
    document, begin, end = span
    length, stream, indices = sequences.sequence_length, stream_of(sequences), indices_of(sequences)
    found = []
    for copy in [at for at, there in enumerate(stream) if there == (document, begin)]:
        touching = [k for k in indices if k * length <= copy + end - begin - 1 and copy <= k * length + length]
        whole = [k for k in touching if k * length <= copy and copy + end - begin <= k * length + length + 1]
        found += [(index, k in whole) for k in whole or touching for index in indices[k] if index >= 0]
    return sorted(found)


def stream_of(sequences: Sequences) -> list[tuple[int, int]]:
    """(document, token of it) of the whole stream."""
    order = (
        sequences.placement.doc_idx.tolist()
        if isinstance(sequences.placement, Mapped)
        else range(len(sequences.tokens))
    )
    return [(document, token) for document in order for token in range(sequences.tokens.sizes[document])]


def indices_of(sequences: Sequences) -> dict[int, list[int]]:
    """By sequence of the stream, its sample indices; -1 for the one that NeoX loses and for what is left at the
    end."""
    found: dict[int, list[int]] = {}
    if isinstance(sequences.placement, Mapped):
        found = {sequence: [index] for index, sequence in enumerate(sequences.placement.shuffle_idx.tolist())}
        found = {sequence: [index if index < len(sequences) else -1] for sequence, [index] in found.items()}
    else:
        assert isinstance(sequences.placement, Cut)
        for index, sequence in enumerate(
            sequences.placement.numbering.sequences_at(np.arange(len(sequences))).tolist()
        ):
            found.setdefault(sequence, []).append(index)
    return {**found, len(found): [-1]}


@settings(deadline=None, max_examples=150)
@given(
    sizes=st.lists(st.integers(0, 14), min_size=1, max_size=7).filter(lambda sizes: sum(sizes) > 12),
    length=st.integers(2, 9),
    layout=st.sampled_from(["neox", "feistel"]),
    seed=st.integers(1, 99),
    data=st.data(),
)
def test_steps_are_those_of_the_sequences_of_the_stream(
    sizes: list[int], length: int, layout: str, seed: int, data: st.DataObject
) -> None:
    sequences = order_of(sizes, length, layout, seed)
    spans = []
    for _ in range(5):
        document = data.draw(st.sampled_from([number for number, size in enumerate(sizes) if size]))
        begin = data.draw(st.integers(0, sizes[document] - 1))
        spans.append((document, begin, data.draw(st.integers(begin + 1, sizes[document]))))
    found = seen(sequences, occurrences_of(spans))
    for number, span in enumerate(spans):
        mine = found.occurrence == number
        indices = zip(found.sample_index[mine].tolist(), found.whole[mine].tolist(), strict=True)
        assert sorted(indices) == slowly_seen(sequences, span)  # a sequence may hold two copies


def test_a_document_of_known_sequences() -> None:
    """One document of 17 tokens in sequences of 8 + 1: samples [0, 8] and [8, 16], the last of which NeoX loses."""
    tokens = tokens_of([[0] * 26])
    maps = (
        np.zeros(1, np.int32),
        np.array([[0, 0], [0, 8], [0, 16], [0, 24]], np.int32),
        np.array([1, 0, 2], np.uint32),
    )
    sequences = Sequences(tokens, Mapped(tokens, *maps, 8))
    cases = {
        (0, 3): [(1, True)],
        (7, 9): [(1, True)],  # its last token is also the first of sequence 0, which cuts nothing
        (8, 9): [(0, True), (1, True)],  # the shared token by itself is whole in both
        (8, 10): [(0, True)],
        (6, 11): [(0, False), (1, False)],
        (15, 18): [(0, False)],  # the rest is in the sequence that NeoX loses
        (17, 19): [],
        (0, 26): [(0, False), (1, False)],
    }
    found = seen(sequences, occurrences_of([(0, begin, end) for begin, end in cases]))
    for number, wanted in enumerate(cases.values()):
        mine = found.occurrence == number
        assert list(zip(found.sample_index[mine].tolist(), found.whole[mine].tolist(), strict=True)) == wanted


# --- the command ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make([text(seed) for seed in range(3)] + ["banana aa"], steps=110)  # 440 sequences: several epochs
    return folder


@pytest.fixture
def command(corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str) -> str:
        monkeypatch.chdir(corpus)
        monkeypatch.setattr(sys, "argv", ["find", *arguments, "--study", "study.json", "--corpus", "standard"])
        find.main()
        return capsys.readouterr().out

    return run


def test_everything_found_is_what_the_sequences_hold(command: Command, corpus: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(corpus / "data/tokenizer/tokenizer.json"))
    sequences = Sequences.open(corpus / "data/standard", 1234)
    (tmp_path / "terms.txt").write_text("cafe\u0301\naa\n\nno such text\n", encoding="utf-8")
    paths = [str(tmp_path / name) for name in ("found.json", "counts.csv", "terms.txt")]
    told = command(
        "banana", "--json", paths[0], "--counts", paths[1], "--terms", paths[2], "--until", "99", "--limit", "3"
    )
    content = json.loads(Path(paths[0]).read_text(encoding="utf-8"))
    terms = ["banana", "café", "aa", "no such text"]
    assert [each["term"] for each in content["terms"]] == terms
    assert (content["corpus"], content["data_seed"], content["batch_size"], content["until"]) == (
        "standard",
        1234,
        4,
        99,
    )
    wanted = {term: slowly(tokenizer, sequences.tokens, term, False) for term in terms}
    for each in content["terms"]:
        found = wanted[each["term"]]
        mine = [hit for hit in content["occurrences"] if hit["term"] == each["term"]]
        assert (each["occurrences"], each["documents"]) == (len(found), len({document for document, *_ in found}))
        assert [hit["document"] for hit in mine] == [document for document, *_ in found]
        for hit, (document, begin, end) in zip(mine, found, strict=True):
            content_text = tokenizer.decode(sequences.tokens[document].tolist(), skip_special_tokens=False)
            assert hit["text"] == content_text[begin:end] == each["term"]
            assert content_text[:begin].endswith(hit["before"]) and content_text[end:].startswith(hit["after"])
            assert len(hit["before"]) == min(begin, 40) or begin > 40 > len(hit["before"]) > 20
            assert (hit["component"], hit["origin"]) == (("even", "odd")[document % 2], f"<file>#{document}")
            sightings = sorted((sequence["sample_index"], sequence["whole"]) for sequence in hit["seen"])
            assert sightings == [
                s for s in slowly_seen(sequences, (document, hit["begin"], hit["end"])) if s[0] < 4 * 99
            ]
            assert all(sequence["step"] == sequence["sample_index"] // 4 + 1 for sequence in hit["seen"])
        assert each["seen"] == sum(sequence["whole"] for hit in mine for sequence in hit["seen"])
        assert each["cut"] == sum(not sequence["whole"] for hit in mine for sequence in hit["seen"])
    counts = list(csv.DictReader(Path(paths[1]).read_text(encoding="utf-8").splitlines()))
    assert [int(sequence["step"]) for sequence in counts if sequence["term"] == "aa"] == [
        0,
        1,
        2,
        4,
        8,
        16,
        32,
        64,
    ]  # saved, to 99
    for sequence in counts:
        indices = [
            s["sample_index"]
            for hit in content["occurrences"]
            if hit["term"] == sequence["term"]
            for s in hit["seen"]
            if s["whole"]
        ]
        assert int(sequence["count"]) == sum(index < 4 * int(sequence["step"]) for index in indices)
    assert max(int(sequence["count"]) for sequence in counts) > 10
    total = sum(len(found) for found in wanted.values())
    assert f"3 of {total} occurrences shown" in told
    seen_by_99 = content["terms"][0]["seen"]
    assert re.search(rf"│ banana +│ +{len(wanted['banana'])} │ +\d+ │ +{seen_by_99} │", told)


def test_counts_at_the_last_step_are_those_of_all_sequences(command: Command, tmp_path: Path) -> None:
    command("the", "--counts", str(tmp_path / "counts.csv"), "--json", str(tmp_path / "found.json"))
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    last = (tmp_path / "counts.csv").read_text().splitlines()[-1]
    assert last == f"the,110,{content['terms'][0]['seen']}"
    assert max(len(hit["seen"]) for hit in content["occurrences"]) > 1  # two epochs


def test_nothing_found_is_said(command: Command, tmp_path: Path) -> None:
    told = command("no such text", "--json", str(tmp_path / "found.json"), "--word")
    assert "0 of 0 occurrences shown" in told
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["occurrences"] == [] and content["word"] is True


def test_mistakes_are_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"ab\ncaf\xe9")
    for arguments, told in (
        ([], "no text to find"),
        ([""], "an empty term"),
        (["x" * (LONGEST_TERM + 1)], "4097 bytes, at most 4096"),
        (["\udce9"], "not valid UTF-8"),
        (["a", "--until", "111"], "a step from 0 to 110"),
        (["--terms", str(tmp_path / "none.txt")], "no such file"),
        (["--terms", str(tmp_path / "latin.txt")], "not UTF-8 at byte 6"),
    ):
        with pytest.raises(UserError, match=re.escape(told)):
            command(*arguments)


def test_counts_need_a_study(corpus: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    np.zeros(18, np.uint16).tofile(tmp_path / "document.bin")
    (tmp_path / "document.idx").write_bytes(b"".join(index_blocks(np.full(2, 9), np.dtype("<u2"))))
    monkeypatch.chdir(corpus)
    options = ["--tokens", str(tmp_path / "document"), "--batch-size", "1"]
    monkeypatch.setattr(sys, "argv", ["find", "a", *options, "--counts", "c.csv"])
    with pytest.raises(UserError, match="saved steps"):
        find.main()
    monkeypatch.setattr(sys, "argv", ["find", END_OF_TEXT, *options, "--json", str(tmp_path / "found.json")])
    find.main()  # documents are sequences there, and no sequence border is inside one
    assert json.loads((tmp_path / "found.json").read_text())["terms"][0]["seen"] == 18


def test_a_document_counts_once_however_the_pass_is_cut() -> None:
    tally = Tally(2, [8])
    sequences = order_of([30], 8, "feistel", 1)
    for begin in (1, 4, 9):
        part = Occurrences(*(np.array([value]) for value in (0, 0, begin, begin + 1, 0)))
        tally.add(part, seen(sequences, part))
    assert tally.occurrences.tolist() == [3, 0] and tally.documents.tolist() == [1, 0]
