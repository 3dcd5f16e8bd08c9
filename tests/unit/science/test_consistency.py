from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import cohen_kappa_score

from scripts.science import consistency
from scripts.study import paths
from scripts.study.seeds import suite
from tests.unit.report.test_findings import small_study

ITEMS = 200


def _choices(run: str, step: int) -> np.ndarray:
    """Answers to two choices: a run's last are its own, earlier ones have a part of them by chance."""
    rng = np.random.default_rng(list(f"{run} {step}".encode()))
    own = np.random.default_rng(list(run.encode())).integers(0, 2, ITEMS)
    return np.where(rng.random(ITEMS) < step / 64, own, rng.integers(0, 2, ITEMS))


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = small_study()
    for run in suite(study):
        for step in study.evaluation_steps(run.name):
            path = paths.evaluation(run.name, "zero-shot", step).with_suffix(".samples.parquet")
            path.parent.mkdir(parents=True, exist_ok=True)
            chosen = _choices(run.name, step)
            rows = {"task": ["castalia_agreement"] * ITEMS, "item": range(ITEMS), "value": chosen.astype(float)}
            accuracy = {**rows, "metric": ["acc,none"] * ITEMS}
            columns = ["task", "item", "metric", "value"]
            both = [pa.table(each).select(columns) for each in ({**rows, "metric": ["choice,none"] * ITEMS}, accuracy)]
            pq.write_table(pa.concat_tables(both), path)


def test_kappa_with_the_own_last_step_and_with_the_reference_seed(written: None) -> None:
    table = consistency.made(small_study())["consistency"].set_index(["run", "step"])
    seed = table.loc[("pythia-160k-seed1", 0)]
    assert (seed["items"], seed["reference"]) == (ITEMS, "pythia-160k")
    own, reference = _choices("pythia-160k-seed1", 0), _choices("pythia-160k", 0)
    assert seed["with_last"] == pytest.approx(cohen_kappa_score(own, _choices("pythia-160k-seed1", 64)))
    assert seed["with_reference"] == pytest.approx(cohen_kappa_score(own, reference))
    assert (table["with_last"].xs(64, level="step") == 1).all()
    assert table.loc[("pythia-160k", 0), "reference"] == ""
    assert np.isnan(table.loc[("pythia-160k", 0), "with_reference"])
    assert table.loc[("pythia-160k-deduped", 0), "reference"] == ""  # the only one of its corpus
