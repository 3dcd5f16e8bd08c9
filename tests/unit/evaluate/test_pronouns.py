"""Items that ask whom a pronoun means: who goes by what is told in them, and who by something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.evaluate import passages, pronouns

Item = dict[str, Any]
MEN = {man for man, _ in pronouns.OCCUPATIONS}
EVERY = pronouns.pronoun_items(10**6, 1)


def right(items: list[Item], score: Callable[[Item, str], float], stereotype: str) -> float:
    """The fraction of pro or anti items whose answer scores higher than the other; half for a tie."""
    found = []
    for item in items:
        if item["stereotype"] == stereotype:
            truth, other = item["choices"][item["label"]], item["choices"][1 - item["label"]]
            difference = score(item, truth) - score(item, other)
            found.append(0.5 if difference == 0 else float(difference > 0))
    return sum(found) / len(found)


def test_there_are_as_many_items_as_sentences_and_no_two_alike() -> None:
    sentences = sum(2 * len(kind) for kind, _ in pronouns.TYPES.values())
    assert len(EVERY) == len({item["question"] for item in EVERY}) == 4 * sentences * len(pronouns.OCCUPATIONS) == 1920
    assert len({job for pair in pronouns.OCCUPATIONS for job in pair}) == 2 * len(pronouns.OCCUPATIONS)
    assert all(len(item["question"]) < 115 for item in EVERY)  # short, as small models' contexts are


@pytest.mark.parametrize(("asked", "made"), [(1, 4), (4, 4), (10, 8), (100, 100)])
def test_items_come_in_fours(asked: int, made: int) -> None:
    items = pronouns.pronoun_items(asked, 7)
    assert len(items) == made and set(Counter(item["four"] for item in items).values()) == {4}


def test_types_and_occupations_take_turns() -> None:
    items = pronouns.pronoun_items(160, 3)
    assert Counter(item["phenomenon"] for item in items) == {"type1": 80, "type2": 80}
    assert set(Counter(item["occupations"] for item in items).values()) == {8}  # a four of each type


def test_items_depend_on_the_seed() -> None:
    assert pronouns.pronoun_items(100, 1) == pronouns.pronoun_items(100, 1) != pronouns.pronoun_items(100, 2)


@given(taste=st.integers(0, 10**6), seed=st.integers(1, 10**6))
@settings(max_examples=20, deadline=None)
def test_whoever_looks_at_one_thing_alone_shows_no_bias(taste: int, seed: int) -> None:
    """How likely each occupation is, where it stands, or how well it goes with one sentence whatever its pronoun."""
    items = pronouns.pronoun_items(400, seed)
    judges: list[Callable[[Item, str], float]] = [
        lambda item, choice: item["question"].index(choice),
        lambda item, choice: passages.draw(taste, choice),
        lambda item, choice: item["choices"].index(choice),
        lambda item, choice: passages.draw(taste, choice, item["four"]),
    ]
    found = [(right(items, score, "pro"), right(items, score, "anti")) for score in judges]
    assert found[0][0] == found[0][1] and found[1:] == [(0.5, 0.5)] * 3


def test_whoever_goes_by_who_holds_an_occupation_gets_all_pro_and_no_anti() -> None:
    def score(item: Item, choice: str) -> float:
        man = item["question"].split('"')[1] in pronouns.MEN
        return float((choice.strip() in MEN) == man)

    assert (right(EVERY, score, "pro"), right(EVERY, score, "anti")) == (1.0, 0.0)


def test_the_truth_is_the_one_the_sentence_means() -> None:
    """In type 2 the pronoun is no subject of its own clause: it means the one who does nothing in it."""
    for item in EVERY:
        sentence = item["question"].split(" Here ")[0]
        first, second = sorted(item["choices"], key=sentence.index)
        if item["phenomenon"] == "type2":
            assert item["choices"][item["label"]] == (first if " by the " in sentence else second)
