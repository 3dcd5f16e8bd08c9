"""Near-duplicates, clusters, the held-out split."""

import random
import unicodedata
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.data.dedup import minhash
from scripts.data.dedup.assign import SINGLE, Clusters, Documents, assign, chosen, removals
from scripts.data.dedup.clusters import example_pairs
from scripts.data.dedup.minhash import (
    Hashing,
    bend,
    read_clusters,
    similarity,
    simplification,
    split_bands,
    words,
    write_pairs,
    write_signatures,
)
from scripts.data.streams import document_id
from scripts.data.tables import ids_to_numbers, numbers_to_ids
from scripts.report.pages.data import side_by_side

WORDS = [f"word{n}" for n in range(2000)]
HASHING = Hashing(bands=13, rows=18, ngram=5, seed=1)


def text(seed: int, words: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def clusters(parts: list[list[str]], folder: Path, groups: int = 1) -> list[int]:
    """Cluster of each text of all parts, or SINGLE, through the three stages."""
    signatures = [folder / f"signatures-{part}" for part in range(len(parts))]
    for part, texts in enumerate(parts):
        write_signatures(texts, signatures[part], part, HASHING)
    pairs = [folder / f"pairs-{group}" for group in range(groups)]
    for group, pair in enumerate(pairs):
        write_pairs(signatures, pair, range(group, HASHING.bands, groups), HASHING)
    found = read_clusters(pairs, HASHING)
    numbers = []
    for part, texts in enumerate(parts):
        mine = np.full(len(texts), SINGLE)
        documents, cluster = found.get(part, (np.array([], int), np.array([], int)))
        mine[documents] = cluster
        numbers += mine.tolist()
    return numbers


# --- near-duplicates -------------------------------------------------------------------------------


def test_the_split_of_256_hashes_bends_at_the_published_threshold() -> None:
    assert split_bands(256, 0.87) == (13, 18)
    assert abs(bend(13, 18) - 0.87) < 0.003


@given(hashes=st.integers(1, 300), threshold=st.floats(0.05, 1))
def test_a_split_fits_the_hashes_and_none_is_nearer(hashes: int, threshold: float) -> None:
    bands, rows = split_bands(hashes, threshold)
    assert 0.9 * hashes <= bands * rows <= hashes
    for other in range(1, hashes + 1):
        if other * (hashes // other) >= 0.9 * hashes:
            assert abs(bend(bands, rows) - threshold) <= abs(bend(other, hashes // other) - threshold)


BASE = text(1, 400)
NEAR = " ".join([*BASE.split()[:-2], "other", "end"])  # 4 or so of 396 shingles differ
HALF = " ".join([*BASE.split()[:200], *text(2, 200).split()])
TEXTS = [BASE, text(3), NEAR.upper() + "!", HALF, BASE, "too short", ""]


def test_near_copies_share_a_cluster_and_others_do_not(tmp_path: Path) -> None:
    found = clusters([TEXTS], tmp_path)
    assert found[0] == found[2] == found[4] != SINGLE
    assert found[1] == found[3] == SINGLE
    assert found[5] == found[6] == SINGLE
    assert similarity(BASE, NEAR, 5) > 0.95
    assert 0.2 < similarity(BASE, HALF, 5) < 0.5


@pytest.mark.parametrize(("cuts", "groups"), [([0, 3, 7], 2), ([0, 1, 1, 5, 7], 4), ([0, 0, 7], 20)])
def test_clusters_do_not_depend_on_the_number_of_jobs(cuts: list[int], groups: int, tmp_path: Path) -> None:
    parts = [TEXTS[begin:end] for begin, end in pairwise(cuts)]
    assert clusters(parts, tmp_path, groups) == clusters([TEXTS], tmp_path / "one")


def characters(first: int, last: int, marks: str = "", blanks: int = 12) -> Callable[[random.Random, int], str]:
    """A maker of texts of random letters of a script, with marks on a third of them and a stop now and then."""

    def made(chance: random.Random, length: int) -> str:
        letters = (
            chr(chance.randint(first, last)) + chance.choice(f"{marks}  "[: len(marks) + 2]).strip()
            for _ in range(length)
        )
        return "".join(letter + chance.choices(["", "。"], [blanks, 1])[0] for letter in letters)

    return made


def english(chance: random.Random, length: int) -> str:
    return " ".join(chance.choices(WORDS, k=length))


SCRIPTS = {
    "English": english,
    "Chinese": characters(0x4E00, 0x5DFF),
    "Japanese": characters(0x304B, 0x3067, "\u3099"),
    "Thai": characters(0x0E01, 0x0E2E, "\u0e34\u0e48"),
    "Khmer": characters(0x1780, 0x17A2, "\u17b7"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_near_copies_are_found_whether_words_are_separated_or_not(script: str, tmp_path: Path) -> None:
    chance = random.Random(5)
    originals = [SCRIPTS[script](chance, 400) for _ in range(40)]
    copies = [
        text[: 3 * len(text) // 4] + SCRIPTS[script](chance, 2) + text[3 * len(text) // 4 + 3 :] for text in originals
    ]
    found = clusters([originals + copies], tmp_path)
    pairs = list(zip(found[:40], found[40:], strict=True))
    assert sum(one == other != SINGLE for one, other in pairs) >= 39
    assert len(set(found) - {SINGLE}) >= 39  # unlike texts stay apart
    assert all(similarity(one, other, 5) > 0.95 for one, other in zip(originals, copies, strict=True))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Café, ΤΈΛΟΣ; ёлка", ["cafe", "τελος", "елка"]),  # accents make no other word
        ("مُحَمَّد שָׁלוֹם", ["محمد", "שלום"]),  # nor do points
        ("कि कु की", ["कि", "कु", "की"]),  # vowel signs do
        ("かき がき ハ・パ", ["か", "き", "か\u3099", "き", "ハ", "・", "ハ\u309a"]),  # voicing marks do
        ("Pythia 是一个 GPT模型。", ["pythia", "是", "一", "个", "gpt", "模", "型"]),
        ("ទី\u200bក្រុង", ["ទ\u17b8", "ក\u17d2", "រ\u17bb", "ង"]),  # a place for a line break is no letter
        ("한국어 텍스트", [unicodedata.normalize("NFD", word) for word in ("한국어", "텍스트")]),
    ],
)
def test_what_counts_as_a_word(text: str, found: list[str]) -> None:
    from datatrove.utils.text import simplify_text

    assert words(simplify_text(text, simplification())) == found


TEXT_OF_SPACED_SCRIPTS = st.text(
    st.one_of(st.characters(max_codepoint=0x24F), st.sampled_from("άέёйЁשלוםمحمد한글é́̈ \n"))
)


@given(TEXT_OF_SPACED_SCRIPTS)
def test_words_between_blanks_are_those_datatrove_compares(text: str) -> None:
    """So signatures of such texts keep their bytes."""
    from datatrove.utils.text import TextNormConfig, simplify_text

    assert (
        words(simplify_text(text, simplification())) == simplify_text(text, TextNormConfig(norm_numbers=False)).split()
    )


def test_texts_with_fewer_words_than_a_shingle_are_told(tmp_path: Path) -> None:
    few = ["a b c d", "a b c d e", "", "短い文", "短い文です。"]
    assert write_signatures(few, tmp_path, 0, HASHING).tolist() == [1, 4]


def test_a_long_text_has_the_same_signature_hashed_in_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_signatures(TEXTS, tmp_path / "whole", 0, HASHING)
    monkeypatch.setattr(minhash, "TOGETHER", 7)
    write_signatures(TEXTS, tmp_path / "spans", 0, HASHING)
    for file in (tmp_path / "whole").rglob("*.sig"):
        assert (tmp_path / "spans" / file.relative_to(tmp_path / "whole")).read_bytes() == file.read_bytes()


def test_the_characters_that_differ_are_marked_where_words_are_not_separated() -> None:
    pair = {
        side: {"origin": "o", "text": text}
        for side, text in (("kept", "我们的书 one two"), ("removed", "我们的车 one 2"))
    }
    marked = side_by_side(pair)
    assert marked["kept"]["text"] == "我们的<mark>书</mark> one <mark>two</mark>"
    assert marked["removed"]["text"] == "我们的<mark>车</mark> one <mark>2</mark>"


def test_tables_that_differ_in_their_numbers_are_not_copies(tmp_path: Path) -> None:
    tables = [" ".join(f"row {random.Random(seed + n).randint(0, 10**6)}" for n in range(100)) for seed in (1, 1000)]
    assert clusters([tables], tmp_path) == [SINGLE, SINGLE]


# --- clusters and the held-out split ---------------------------------------------------------------


def documents(
    texts: list[str], near: list[int] | None = None, components: str | None = None, reserved: str = ""
) -> Documents:
    """Documents of one-letter components, `a` where nothing is said."""
    letters = list(components or "a" * len(texts))
    names = sorted(set(letters))
    return Documents(
        ids=np.array([int(document_id(t), 16) for t in texts], dtype=np.uint64),
        near=np.array(near or [SINGLE] * len(texts), dtype=np.int64),
        component=np.array([names.index(letter) for letter in letters], dtype=np.int32),
        names=names,
        characters=np.array([len(t) for t in texts]),
        reserved=np.array([letter in reserved for letter in letters]),
    )


def names(found: Clusters) -> list[str]:
    return [str(name) for name in numbers_to_ids(found.cluster).to_pylist()]


def test_clusters_are_named_by_their_first_document_and_equal_short_texts_share_one() -> None:
    given_texts = documents(["short", "x", "short", "y", "z"], [SINGLE, 7, SINGLE, 7, SINGLE], "aabbb")
    found = assign(given_texts, 0.0)
    assert names(found) == [document_id(t) for t in ("short", "x", "short", "x", "z")]
    assert found.size.tolist() == [2, 2, 2, 2, 1]
    assert found.first.tolist() == [True, True, False, False, True]
    assert not found.held_out.any()
    counts = removals(given_texts, found, {"a": 3})
    assert (counts["b"].documents, counts["b"].clusters, counts["b"].removed_documents) == (3, 1, 2)
    assert counts["b"].removed_fraction == round(1 - 1 / 7, 4)
    assert counts["a"].clusters_of_several == 2
    assert (counts["a"].too_short_documents, counts["b"].too_short_documents) == (3, 0)
    assert example_pairs(given_texts, found, np.ones(5, dtype=bool)) == [(1, 3)]  # equal texts need no looking at
    assert example_pairs(given_texts, found, np.array([True, True, True, False, True])) == []


def test_whole_clusters_are_held_out_and_every_component_gives_some() -> None:
    many = documents([f"{n // 2}" for n in range(400)], components="".join("ab"[n % 40 == 0] for n in range(400)))
    found = assign(many, 0.03)
    sides: dict[str, set[bool]] = {}
    for name, side in zip(names(found), found.held_out.tolist(), strict=True):
        sides.setdefault(name, set()).add(side)
    assert all(len(side) == 1 for side in sides.values())
    held = found.first & found.held_out
    assert int((held & (many.component == 0)).sum()) == 6  # of 190, rounded up
    assert int((held & (many.component == 1)).sum()) == 1  # of 10
    assert not assign(many, 0.0).held_out.any()
    assert assign(many, 0.05).held_out[found.held_out].all()  # a larger share only adds


def test_what_is_near_reserved_text_is_held_out_too_and_gives_no_share() -> None:
    texts = ["x1", "v1", "y", "x2", "v2"]
    found = assign(documents(texts, [3, 3, SINGLE, 4, SINGLE], "avaav", reserved="v"), 0.0)
    assert found.held_out.tolist() == [True, True, False, False, True]
    found = assign(documents(texts, [3, 3, SINGLE, 4, SINGLE], "avaav", reserved="v"), 0.5)
    assert found.held_out.sum() == 4  # one of the two clusters that are left to component a


@given(
    near=st.lists(st.integers(-1, 3), min_size=1, max_size=30),
    data=st.data(),
)
def test_assignment_against_a_slow_reference(near: list[int], data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.sampled_from("pqrst"), min_size=len(near), max_size=len(near)))
    by_text = dict(zip(reversed(texts), reversed(near), strict=True))
    near = [by_text[t] for t in texts]  # equal texts have equal signatures, so they are together or in none
    found = assign(documents(texts, near), 0.0)
    for place, (content, number) in enumerate(zip(texts, near, strict=True)):
        same = [p for p in range(len(texts)) if (near[p] == number != SINGLE) or texts[p] == content]
        assert found.size[place] == len(same)
        assert found.first[place] == (place == same[0])
        assert names(found)[place] == document_id(texts[same[0]])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=40))
def test_the_first_eligible_of_each_key_is_chosen(pairs: list[tuple[int, bool]]) -> None:
    keys, eligible = np.array([k for k, _ in pairs], np.uint64), np.array([e for _, e in pairs], bool)
    seen: set[int] = set()
    for key, fits, kept in zip(keys.tolist(), eligible.tolist(), chosen(keys, eligible).tolist(), strict=True):
        assert kept == (fits and key not in seen)
        if fits:
            seen.add(key)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_ids_are_numbers_and_back(numbers: list[int]) -> None:
    column = numbers_to_ids(np.array(numbers, dtype=np.uint64))
    assert column.to_pylist() == [f"{n:016x}" for n in numbers]
    assert ids_to_numbers(pa.chunked_array([column, column])).tolist() == numbers * 2
