"""Log-probabilities of true continuations, beside Transformers' logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.common.environment import ROOT
from scripts.memorize import pieces
from scripts.memorize.chosen import KINDS
from scripts.memorize.probabilities import ROWS, TEMPERATURES, batches, log_probabilities, probed
from scripts.memorize.read import NOWHERE, Read
from scripts.memorize.score import LOGS, table
from scripts.memorize.scorers import exact
from scripts.study.config.memorization import Memorization
from scripts.study.study import parse, read
from tests.unit.memorize.test_scorers import (
    PROMPT,
    VOCABULARY,
    WIDTH,
    generated,
    ours,
    sequences_of_all_kinds,
    transformers_model,
)


def found_by(model: object, sequences: np.ndarray) -> np.ndarray:
    """[temperatures, n]"""
    parts, back = batches(sequences, "cpu")
    return np.concatenate([log_probabilities(model, part, PROMPT) for part in parts], axis=1)[:, back]  # type: ignore[arg-type]


def read_of(indices: list[int], kinds: list[str]) -> Read:
    count = len(indices)
    return Read(
        tokens=np.zeros((count, 4), np.uint16), sample_index=np.array(indices), names=["x"],
        kind=np.array([KINDS.index(kind) for kind in kinds], np.uint8), count=np.ones(count, np.int64),
        component=np.zeros(count, np.uint16), copies=np.zeros(count, np.int32),
    )  # fmt: skip


def asked(probes: int, sample: int = 5) -> Memorization:
    return Memorization(prompt=2, continuation=2, sample_sequences=sample, repeated_sequences=0, seed=1, batch_size=4,
                        log_probabilities=probes)  # fmt: skip


def test_they_are_those_of_transformers_at_both_temperatures(tmp_path: Path) -> None:
    model = transformers_model(1)
    sequences = sequences_of_all_kinds(model, 90)
    with torch.no_grad():
        logits = model(torch.from_numpy(sequences)).logits[:, PROMPT - 1 : -1].double()
    targets = torch.from_numpy(sequences[:, PROMPT:, None])
    found = found_by(ours(model, tmp_path), sequences)
    assert found.dtype == np.float32
    for temperature, column in zip(TEMPERATURES, found, strict=True):
        expected = (logits / temperature).log_softmax(2).gather(2, targets)[..., 0].sum(1)
        np.testing.assert_allclose(column, expected.numpy(), rtol=1e-5, atol=1e-4)


def test_greedily_memorized_sequences_become_certain_as_the_temperature_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = transformers_model(2)
    scorer = ours(model, tmp_path)
    prompts = torch.randint(0, VOCABULARY, (40, PROMPT), generator=torch.Generator().manual_seed(0))
    own = generated(model, prompts, WIDTH - PROMPT).numpy()
    changed = own.copy()
    changed[:, -1] = (changed[:, -1] + 1) % VOCABULARY
    sequences = np.concatenate([own, changed])
    memorized = exact(scorer, sequences, PROMPT, 16).first_miss == WIDTH - PROMPT
    assert memorized.sum() == 40
    ladder = (1.0, 0.5, 0.1, 1e-3)
    monkeypatch.setattr("scripts.memorize.probabilities.TEMPERATURES", ladder)
    found = found_by(scorer, sequences)
    assert (np.diff(found[:, memorized], axis=0) >= -1e-4).all()  # each true token is the largest: cooler is likelier
    assert np.median(np.exp(found[-1, memorized])) > 0.99
    assert (found[:, ~memorized] < np.log(0.5) + 1e-4).all()  # a token that is not the largest has half at most


@pytest.mark.parametrize("count", [1, ROWS["cpu"], ROWS["cpu"] + 1])
def test_batches_are_fixed_whatever_their_number_and_equal_texts_have_equal_values(tmp_path: Path, count: int) -> None:
    scorer = ours(transformers_model(3), tmp_path)
    sequences = np.random.default_rng(0).integers(0, VOCABULARY, (count, WIDTH)).astype(np.uint16)
    sequences = np.concatenate([sequences, sequences])
    parts, back = batches(sequences, "cpu")
    assert parts.shape == (-(-count // ROWS["cpu"]), ROWS["cpu"], WIDTH)
    assert (parts.reshape(-1, WIDTH)[back] == sequences).all()
    found = found_by(scorer, sequences)
    assert (found[:, :count] == found[:, count:]).all()
    assert (found == found_by(scorer, sequences)).all()
    assert batches(sequences[:0], "cpu")[0].shape == (0, ROWS["cpu"], WIDTH)


def test_half_precision_weights_are_computed_with_in_float32(tmp_path: Path) -> None:
    model = transformers_model(4)
    sequences = sequences_of_all_kinds(model, 30)
    half = ours(model, tmp_path / "half", torch.bfloat16)
    rounded = ours(model.to(torch.bfloat16).float(), tmp_path / "rounded")
    np.testing.assert_allclose(found_by(half, sequences), found_by(rounded, sequences), rtol=1e-6)


def test_probed_are_the_first_of_the_sample_and_canaries() -> None:
    read = read_of([0, 1, 2, 3, 4, NOWHERE], ["sample"] * 5 + ["canary"])
    every = probed(read, asked(5), 5)
    assert every.tolist() == [0, 1, 2, 3, 4, 5]
    fewer = [probed(read, asked(count), 5).tolist() for count in (1, 2, 3)]
    assert [len(each) for each in fewer] == [2, 3, 4] and all(each[-1] == 5 for each in fewer)
    assert set(fewer[0]) < set(fewer[1]) < set(fewer[2])


def test_a_table_has_the_columns_only_where_they_are_asked_for() -> None:
    scored, misses = read_of([0, 5], ["sample", "rest"]), np.array([2, 0], np.int16)
    assert not set(LOGS) & set(table(scored, pieces.Scores(misses, misses), 2, 1, 4).column_names)
    logs = np.array([[-1.5, np.nan], [-0.5, np.nan]], np.float32)
    made = table(scored, pieces.Scores(misses, misses, logs), 2, 1, 4)
    assert made["log_probability"].to_pylist() == [-1.5, None]
    assert made["log_probability_half"].to_pylist() == [-0.5, None]
    assert str(made.schema.field("log_probability").type) == "float"
    assert len(LOGS) == len(TEMPERATURES)


def test_settings_of_results_without_them_are_what_they_were() -> None:
    content = read(ROOT / "studies/smoke.yaml")
    for count in (0, 4):
        content["memorization"]["log_probabilities"] = count
        assert parse(content).memorization_settings().get("log_probabilities", 0) == count
    content["memorization"]["log_probabilities"] = 0
    assert "log_probabilities" not in parse(content).memorization_settings()
