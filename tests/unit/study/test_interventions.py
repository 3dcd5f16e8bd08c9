"""Interventions: the run table, refusals, and the changes of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.data import changes, tokenizer
from scripts.study.config.interventions import Intervention
from scripts.study.runs import TEXT_TRANSFORMS
from scripts.study.study import Study, parse
from tests.workflow.conftest import SMOKE


def study(**interventions: Any) -> Study:
    content = read_yaml(SMOKE)
    content["checkpoints"]["optimizer_states"]["extra"] = [2, 4]
    return parse({**content, "interventions": interventions})


def parent(run: str = "pythia-tiny", step: int = 4, **more: Any) -> dict[str, Any]:
    return {"parent": {"run": run, "step": step}, **more}


def test_a_pattern_names_several_parents() -> None:
    made = study(swap=parent("pythia-*", transform="feminine-pronouns"))
    children = [name for name in made.runs if "intervention" in name]
    assert children == [
        "pythia-tiny-intervention-swap",
        "pythia-small-intervention-swap",
        "pythia-tiny-deduped-intervention-swap",
    ]
    child = made.run(children[2])
    assert (child.corpus, child.init_seed, child.first_step, child.steps_trained) == ("deduped", 1234, 4, 4)
    assert made.steps(child.name) == [8]
    assert made.train_settings(child.name)["origin"] == {
        "run": "pythia-tiny-deduped", "folder": None, "step": 4, "transform": "feminine-pronouns", "between": [4, 8]
    }  # fmt: skip
    assert "origin" not in made.train_settings("pythia-tiny")


def test_segments_share_out_the_steps_that_are_left() -> None:
    made = study(longer=parent(step=4, training={"steps": 16}))
    runtime = made.file.runtime.model_copy(update={"segments": 3})
    made = Study(made.file.model_copy(update={"runtime": runtime}))
    assert made.segment_ends("pythia-tiny-intervention-longer") == [8, 12, 16]


def test_a_checkpoint_in_a_folder_has_its_own_first_step() -> None:
    origin = {"folder": "/elsewhere", "step": 4, "size": "tiny", "corpus": "standard", "seed": 7}
    made = study(adopted={"parent": origin})
    (name,) = [name for name in made.runs if "intervention" in name]
    assert name == "pythia-tiny-seed7-intervention-adopted"
    assert made.steps(name) == [4, 8]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (parent("pythia-tny"), "write:   run: pythia-tiny"),
        (parent(step=1), "into checkpoints.optimizer_states.extra"),
        (parent(step=8), "less than its last step, 8"),
        (parent(transform="feminine-pronouns", between=[4, 9]), "between: [4, 8]"),
        (parent(transform="feminine-pronouns", between=[2, 6]), "must rise from parent.step on"),
        (parent(between=[4, 6]), "says which sequences a transform changes"),
        (parent(transform="masculine"), "feminine-pronouns"),
        (parent(training={"batch_size": 8}), "allowed: steps, learning_rate, optimizer"),
        (parent(training={"learning_rate": {"peek": 1.0}}), "peak"),
        ({"parent": {"step": 4}}, "either `run` or `folder`"),
        ({"parent": {"folder": "x", "step": 4}}, "does not say size and corpus and seed"),
        ({"parent": {"run": "pythia-tiny", "step": 4, "size": "tiny"}}, "is that of the parent"),
        ({"parent": {"folder": "x", "step": 4, "size": "tny", "corpus": "standard", "seed": 1}}, "size: tiny"),
    ],
)
def test_mistakes_are_told_with_what_to_write(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        study(change=asked)
    assert told in str(error.value)
    assert "interventions" in str(error.value)


def test_every_named_transform_exists() -> None:
    named = Intervention.model_json_schema()["properties"]["transform"]["anyOf"][0]["enum"]
    assert set(named) == set(changes.TEXT) | set(changes.SEQUENCES)
    assert set(TEXT_TRANSFORMS) == set(changes.TEXT)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("He took his hat; it was HIS.", "She took her hat; it was HER."),
        ("him, himself, The hero of this history", "her, herself, The hero of this history"),
        ("she and her mother", "she and her mother"),
    ],
)
def test_pronouns_change_as_words(before: str, after: str) -> None:
    assert changes.feminine_pronouns(before) == after


TEXT = "He said to himself that his café was the best, and it was, ☕ he thought. " * 5


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return tokenizer.train([TEXT] * 3, 310)


@given(begin=st.integers(0, 60), width=st.integers(8, 80))
def test_retold_sequences_keep_their_width_and_lose_no_character(bpe: Tokenizer, begin: int, width: int) -> None:
    """Sequences begin and end anywhere, within a character too."""
    ids = bpe.encode(TEXT).ids
    sequence = np.array([ids[begin : begin + width]])
    (told,) = changes.retold(sequence, bpe, changes.feminine_pronouns)
    assert told.shape == sequence[0].shape
    same = changes.retold(sequence, bpe, lambda text: text)
    assert np.array_equal(same, sequence)
    old, new = (bpe.decode(each.tolist()) for each in (sequence[0], told))
    expected = changes.feminine_pronouns(old)
    assert new == expected or expected.startswith(new.rstrip("\ufffd")) or new.startswith(expected)
    assert new.count("\ufffd") <= max(old.count("\ufffd"), 3)


def test_only_places_in_the_range_change() -> None:
    sequences = np.tile(np.arange(32), (10, 1))
    change = changes.Change(3, 6, changes.shuffled_tokens)
    indices = np.array([9, 2, 3, 5, 6, 4, 0, 1, 7, 8])
    changed = change.applied(indices, sequences)
    different = {int(index) for index, old, new in zip(indices, sequences, changed, strict=True) if (old != new).any()}
    assert different == {3, 4, 5}
    assert all((np.sort(sequence) == np.arange(32)).all() for sequence in changed)
    alone = change.applied(np.array([4]), sequences[:1])
    assert np.array_equal(alone[0], changed[5])  # by its sample index, not by its company
