"""Likeness of activations: what is known to be alike is, and what has nothing in common is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from statsmodels.multivariate.cancorr import CanCorr
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from scripts.memorize.model import Model
from scripts.report.findings import similarity as findings
from scripts.science.similarity import of_model
from scripts.science.statistics.similarity import Array, centred, cka, pwcca

RANDOM = np.random.default_rng(1)
WIDTH, COUNT = 12, 400
ONE: Array = RANDOM.normal(size=(COUNT, WIDTH)) * np.linspace(1, 3, WIDTH)
TURN = np.linalg.qr(RANDOM.normal(size=(WIDTH, WIDTH)))[0]


@pytest.mark.parametrize("measure", [cka, pwcca])
def test_rotation_scale_and_shift_change_nothing(measure: type) -> None:
    assert measure(ONE, 7 * ONE @ TURN + 3) == pytest.approx(1)
    assert measure(ONE, ONE) == pytest.approx(1)


def test_pwcca_is_blind_to_any_linear_map_and_cka_is_not() -> None:
    mapped = ONE @ RANDOM.normal(size=(WIDTH, WIDTH))
    assert pwcca(ONE, mapped) == pytest.approx(1)
    assert cka(ONE, mapped) < 0.98


def test_independent_activations_have_nothing_in_common_however_wide() -> None:
    """The biased estimate would find .5 here (Nguyen et al. 2021)."""
    found = [cka(RANDOM.normal(size=(64, 64)), RANDOM.normal(size=(64, 64))) for _ in range(40)]
    assert abs(np.mean(found)) < 0.02


def test_a_shared_half_is_between() -> None:
    noise = RANDOM.normal(size=ONE.shape) * np.linspace(1, 3, WIDTH)
    half = np.hstack([ONE[:, : WIDTH // 2], noise[:, WIDTH // 2 :]])
    for measure in (cka, pwcca):
        assert 0.05 < measure(ONE, half) < 0.9


def test_cka_is_that_of_all_quadruples_of_inputs() -> None:
    """The unbiased HSIC as the mean over ordered quadruples: k(ij) l(ij) + k(ij) l(qr) - 2 k(ij) l(iq)."""
    from itertools import permutations

    one, other = RANDOM.normal(size=(7, 3)), RANDOM.normal(size=(7, 2))

    def hsic(a: Array, b: Array) -> float:
        k, m = (centred(each) @ centred(each).T for each in (a, b))
        terms = [k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(7), 4)]
        return float(np.mean(terms))

    expected = hsic(one, other) / (hsic(one, one) * hsic(other, other)) ** 0.5
    assert cka(one, other) == pytest.approx(expected)


def test_pwcca_is_what_the_canonical_variates_of_statsmodels_give() -> None:
    other = ONE[:, :3] @ RANDOM.normal(size=(3, 5)) + RANDOM.normal(size=(COUNT, 5))
    theirs = CanCorr(centred(other), centred(ONE))  # of exog and endog, the first gives the variates of `other`
    variates = centred(other) @ theirs.y_cancoef
    variates /= np.linalg.norm(variates, axis=0)
    weights = np.abs(variates.T @ centred(other)).sum(axis=1)
    assert pwcca(other, ONE) == pytest.approx(float(weights @ theirs.cancorr / weights.sum()))


def test_too_few_inputs_tell_nothing_by_pwcca() -> None:
    assert np.isnan(pwcca(ONE[:40], ONE[:40]))
    assert np.isnan(cka(np.ones((8, 3)), ONE[:8]))


def test_a_model_is_like_itself_and_states_are_those_of_transformers(tmp_path: Path) -> None:
    config = GPTNeoXConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = GPTNeoXForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    text = SimpleNamespace(sequences=torch.randint(0, 64, (3, 20)), places=np.array([0, 7, 19]))
    found = of_model(Model.of_folder(tmp_path, torch.float32, "cpu"), text)  # type: ignore[arg-type]
    with torch.no_grad():
        hidden = theirs.gpt_neox(text.sequences, output_hidden_states=True).hidden_states
    assert len(found) == 2
    np.testing.assert_allclose(found[0], hidden[1][:, text.places].reshape(-1, 16).numpy(), atol=1e-5)
    assert cka(found[1], found[1]) == pytest.approx(1)


def test_the_finding_holds_sizes_against_seeds() -> None:
    rows = [
        ("size", "small", "a", "b", 1, 1, 0.5), ("size", "small", "a", "b", 0, 1, 0.9),
        ("seed", "big", "b", "c", 1, 1, 0.7), ("step", "big", "b", "b", 1, 1, 0.2),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["comparison", "size", "run", "other_run", "layer", "other_layer", "cka"])
    table = table.assign(corpus="standard", other_size="big", step=4, other_step=8)
    results = SimpleNamespace(main_corpus="standard", sizes=["small", "big"], science={"similarity": table})
    (found,) = findings.all_findings(results)  # type: ignore[arg-type]
    assert found.effect == pytest.approx(-0.2)
    assert "small and big 0.50; two seeds of big by 0.70" in found.text
    assert len(findings.similarity(results).chart.to_dict()["concat"]) == 1  # type: ignore[arg-type]
