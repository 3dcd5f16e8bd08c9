"""Near-duplicates, clusters, the held-out split."""

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.data.assign import SINGLE, Clusters, Documents, assign, chosen, removal_facts
from scripts.data.clusters import example_pairs
from scripts.data.minhash import (
    Hashing,
    bend,
    read_clusters,
    similarity,
    split_bands,
    write_pairs,
    write_signatures,
)
from scripts.data.store import document_id
from scripts.data.tables import ids_to_numbers, numbers_to_ids

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
    facts = removal_facts(given_texts, found)
    assert (facts["b"]["documents"], facts["b"]["clusters"], facts["b"]["removed_documents"]) == (3, 1, 2)
    assert facts["b"]["removed_share"] == round(1 - 1 / 7, 4)
    assert facts["a"]["clusters_of_several"] == 2
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
