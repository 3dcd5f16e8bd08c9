"""Divergence between models of the smoke study, against Transformers' own predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from scripts.science import divergence, maps
from scripts.study import paths
from scripts.study.study import load
from scripts.train import held_out

RUNS = ("pythia-tiny", "pythia-tiny-deduped")  # of one shape: they may stand for two seeds


@pytest.fixture
def table(suite: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    study = load(Path("results/study.json"))
    runs = [study.runs[name] for name in RUNS]
    monkeypatch.setattr(divergence, "groups", lambda study: {("tiny", "both"): runs})
    found = divergence.made(study)["seed_divergence"]
    pd.testing.assert_frame_equal(found, divergence.made(study)["seed_divergence"], check_exact=True)
    return found


def _log_probabilities(run: str, step: int, text: divergence.Text) -> torch.Tensor:
    """Transformers', [predictions, vocabulary]."""
    model = AutoModelForCausalLM.from_pretrained(paths.model(run, step), dtype=torch.float32)
    with torch.inference_mode():
        logits = model(text.sequences).logits[:, torch.from_numpy(text.places)]
    return torch.log_softmax(logits.double(), dim=-1).flatten(0, 1)


def test_divergence_is_that_of_transformers_predictions(table: pd.DataFrame) -> None:
    text = divergence.Text(64)
    assert len(text.sequences) * len(text.places) <= divergence.PREDICTIONS
    for step in (0, 8):
        first, second = (_log_probabilities(run, step, text) for run in RUNS)
        both = ((first.exp() - second.exp()) * (first - second)).sum(dim=-1).numpy() / 2  # mean of both ways
        rows = table[table["step"] == step].set_index("component")
        assert rows.loc["all", "divergence"] == pytest.approx(both.mean(), abs=1e-5)
        for name in ("novels", "verse"):
            inside = (text.component == name).ravel()
            assert rows.loc[name, "predictions"] == inside.sum()
            assert rows.loc[name, "divergence"] == pytest.approx(both[inside].mean(), abs=1e-5)


def test_predictions_are_of_fixed_held_out_text(suite: Path) -> None:
    text, found = divergence.Text(64), held_out.read(paths.HELD_OUT, 64)
    there = {tuple(row) for row in found.sequences[:, :-1].tolist()}
    assert {tuple(row) for row in text.sequences.tolist()} <= there
    assert text.component.shape == (len(text.sequences), len(text.places))


def test_models_that_only_trained_apart_start_together(table: pd.DataFrame) -> None:
    whole = table[table["component"] == "all"].set_index("step")
    assert whole.loc[0, "divergence"] < 1e-9  # equal weight seeds
    assert whole.loc[8, "divergence"] > 0
    assert list(whole["before"])[1:] == list(whole.index)[:-1]
    assert whole["change"].iloc[1:].sum() == pytest.approx(whole["divergence"].iloc[-1], abs=1e-9)
    assert (whole["low"] <= whole["divergence"]).all() and (whole["divergence"] <= whole["high"]).all()


def test_statistics_of_weights_are_those_of_the_model(suite: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(paths.model("pythia-tiny", 8), dtype=torch.float64)
    weights = [each.detach().numpy() for each in model.parameters()]
    flat = [np.concatenate([each.ravel() for each in weights if (each.ndim > 1) == many]) for many in (True, False)]
    expected = [np.sqrt((each**2).mean()) for each in flat]
    expected += [np.abs(flat[0]).mean() / expected[0], max(np.abs(each).max() for each in flat)]
    assert maps.weights("pythia-tiny", 8) == pytest.approx(expected, rel=1e-9)
