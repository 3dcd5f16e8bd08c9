"""Singular values and entries of matrices whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.analyze.tables import IDENTITY
from scripts.common.environment import ROOT
from scripts.report.findings import spectra as findings
from scripts.science import spectra
from scripts.science.statistics.spectra import Array, heads, measured, of_entries, of_values, product_values
from scripts.study.study import load

RANDOM = np.random.default_rng(0)


def test_an_orthogonal_matrix_uses_all_its_rank_alike() -> None:
    found = measured(np.linalg.qr(RANDOM.normal(size=(16, 16)))[0])
    for rank in ("effective_rank", "stable_rank", "participation"):
        assert found[rank] == pytest.approx(16)
    assert found["condition"] == pytest.approx(1) and found["entropy"] == pytest.approx(np.log(16))
    assert found["frobenius"] == pytest.approx(4) and found["spectral"] == pytest.approx(1)


def test_a_matrix_of_rank_one_has_rank_one() -> None:
    found = measured(np.outer(RANDOM.normal(size=8), RANDOM.normal(size=5)))
    for rank in ("effective_rank", "stable_rank", "participation"):
        assert found[rank] == pytest.approx(1)
    assert found["condition"] > 1e12


def test_known_values() -> None:
    found = of_values(np.array([3.0, 1.0]))
    assert found["frobenius"] == pytest.approx(10**0.5) and found["condition"] == 3
    assert found["entropy"] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert found["stable_rank"] == pytest.approx(10 / 9) and found["participation"] == pytest.approx(100 / 82)


def test_entries_alike_are_even_and_one_alone_is_not() -> None:
    even, alone = of_entries(np.full((4, 5), -2.0)), of_entries(np.eye(1, 20))
    assert even["gini"] == pytest.approx(0) and even["hoyer"] == pytest.approx(0)
    assert alone["gini"] == pytest.approx(1 - 1 / 20) and alone["hoyer"] == pytest.approx(1)


def test_zeros_have_norms_and_nothing_else() -> None:
    found = measured(np.zeros((3, 3)))
    assert found["frobenius"] == found["spectral"] == 0
    assert all(np.isnan(found[name]) for name in ("entropy", "effective_rank", "gini", "hoyer", "condition"))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(6, 12), st.integers(6, 12), st.integers(0, 99))
def test_a_product_has_the_values_of_the_matrix_it_makes(inner: int, rows: int, columns: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    left, right = random.normal(size=(rows, inner)), random.normal(size=(inner, columns))
    np.testing.assert_allclose(
        product_values(left, right), np.linalg.svd(left @ right, compute_uv=False)[:inner], rtol=1e-8, atol=1e-10
    )


def test_heads_lie_as_gpt_neox_splits_them() -> None:
    """Against the split in Transformers' GPTNeoXAttention: view(heads, 3 x size), then chunks of the last."""
    count, size = 3, 2
    width = count * size
    fused = RANDOM.normal(size=(3 * width, width))
    states = RANDOM.normal(size=width)
    query, key, value = np.split((fused @ states).reshape(count, 3 * size), 3, axis=-1)
    for mine, theirs in zip(heads(fused, count), (query, key, value), strict=True):
        np.testing.assert_allclose(mine @ states, theirs)


def test_every_matrix_of_a_model_is_told_and_each_head_moves_what_it_should() -> None:
    width, count, layers, vocabulary = 6, 2, 2, 11
    tensors: dict[str, Array] = {name: RANDOM.normal(size=(vocabulary, width)) for name in spectra.EMBEDDINGS.values()}
    for layer in range(layers):
        where = spectra.LAYER.format(layer=layer)
        tensors[f"{where}attention.query_key_value.weight"] = RANDOM.normal(size=(3 * width, width))
        for name in spectra.WHOLE.values():
            tensors[where + name] = RANDOM.normal(size=(4 * width if "h_to_4h" in name else width, width))
    rows = list(spectra.matrices(tensors.__getitem__, layers, count))
    assert len(rows) == 2 + layers * (3 + count + 3)
    (row,) = (row for row in rows if (row["matrix"], row.get("layer"), row.get("head")) == ("ov", 1, 1))
    where = spectra.LAYER.format(layer=1)
    values = heads(tensors[f"{where}attention.query_key_value.weight"], count)[2][1]
    circuit = tensors[f"{where}attention.dense.weight"][:, 3:] @ values
    assert row["frobenius"] == pytest.approx(np.linalg.norm(circuit))
    assert row["spectral"] == pytest.approx(np.linalg.norm(circuit, 2))


def test_the_finding_tells_the_fall_and_another_seed() -> None:
    study = load(ROOT / "studies/smoke.yaml")
    runs = pd.DataFrame({"run": ["a", "b"], "size": "tiny", "non_embedding": 1, "corpus": "standard"})
    results = SimpleNamespace(study=study, runs=runs, sizes=["tiny"], main_corpus="standard", science={})
    start = dict.fromkeys(IDENTITY, 0) | {"size": "tiny", "corpus": "standard", "intervention": ""}
    rows = [start | {"run": run, "step": step, "tokens": step, "layer": layer, "matrix": "ov", "head": 0,
                     "effective_rank": 8.0 - fall * bool(step)}
            for run, fall in (("a", 4.0), ("b", 3.0)) for step in (0, 8) for layer in (0, 1)]  # fmt: skip
    results.science["spectra"] = pd.DataFrame(rows)
    (found,) = findings.all_findings(results)  # type: ignore[arg-type]
    assert found.effect == pytest.approx(-50) and found.yardstick == pytest.approx(12.5)
    assert "end with 50.0% of the effective rank" in found.text
    assert findings.spectra(results).chart.to_dict()["columns"] == 3  # type: ignore[arg-type]
