"""What interventions change, item by item, where it is planted; and the placebo."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from scripts.common.errors import UserError
from scripts.evaluate.names import PRONOUNS
from scripts.evaluate.passages import draw
from scripts.science.pronouns import changes, made
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.study import Study
from tests.unit.science import planted

INTERVENTIONS = {
    "pronouns": {"parent": {"run": "pythia-160k*", "step": 2}, "transform": "feminine-pronouns"},
    "placebo": {"parent": {"run": "pythia-160k*", "step": 2}},
    "decay": {"parent": {"run": "pythia-160k", "step": 2}, "training": {"optimizer": {"weight_decay": 0.9}}},
}
BIAS = 0.6  # of parents, in nats; the intervention halves it at step 8


def margin(run: Run, step: int, task: str, item: planted.Item) -> float:
    seed = run.name if run.origin is None else str(run.origin.run)
    value = 0.2 * (draw(5, seed, step, task, item["number"]) / 2**63 - 1)
    if task == PRONOUNS:
        changed = run.origin is not None and run.origin.intervention == "pronouns" and step == planted.LAST
        value += (0.5 if changed else 1.0) * BIAS / 2 * (1 if item["stereotype"] == "pro" else -1)
    return value


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    of = planted.study(sizes=("160k",), interventions=INTERVENTIONS)
    planted.write(of, margin)
    return of


def test_the_planted_effect_is_found_with_its_interval(study: Study) -> None:
    tables = made(study)
    for name, again in made(study).items():
        pd.testing.assert_frame_equal(tables[name], again)
    effects = tables["pronouns_effects"]
    effects = effects[(effects["intervention"] == "pronouns") & (effects["measure"] == "margin")]
    bias = effects[(effects["quantity"] == "bias") & (effects["step"] == 8)]
    assert set(bias["type"]) == {"all", "type1", "type2"} and len(bias) == 6
    assert bias["difference"].tolist() == pytest.approx([-BIAS / 2] * 6)
    assert (bias["high"] < 0).all() and (bias["changed_items"] == bias["items"]).all()
    assert (effects.loc[effects["step"] == 4, "difference"] == 0).all()  # nothing had happened yet
    assert bias.loc[bias["type"] == "all", "clusters"].tolist() == [20, 20]
    halves = effects[(effects["step"] == 8) & (effects["type"] == "all")].groupby("quantity")["difference"].mean()
    assert halves.to_dict() == pytest.approx({"anti": BIAS / 4, "bias": -BIAS / 2, "mean": 0, "pro": -BIAS / 4})
    assert (bias["seed_freedom"] == 1).all() and (bias["seed_spread"] > 0).all()


def test_levels_are_pro_less_anti(study: Study) -> None:
    levels = made(study)["pronouns"]
    row = levels[(levels["run"] == "pythia-160k") & (levels["step"] == 8) & (levels["type"] == "all")]
    row = row.set_index("measure").loc["margin"]
    assert row["bias"] == pytest.approx(BIAS, abs=0.05) and row["bias"] == pytest.approx(row["pro"] - row["anti"])
    assert row["bias_low"] < BIAS < row["bias_high"] and row["items"] == 180


def test_accuracies_are_compared_by_mcnemar(study: Study) -> None:
    effects = made(study)["pronouns_effects"]
    rows = effects[(effects["measure"] == "acc") & (effects["step"] == 8)]
    assert rows.loc[rows["quantity"] == "bias", "mcnemar_p"].isna().all()
    row = rows[(rows["intervention"] == "pronouns") & (rows["quantity"] == "anti") & (rows["type"] == "all")].iloc[0]
    assert row["only_run"] >= row["only_parent"] == 0  # weaker anti items are right more often
    assert row["difference"] == pytest.approx(row["only_run"] / row["items"])


def test_a_placebo_has_no_effect_at_all_and_a_bit_is_told(study: Study) -> None:
    assert [change.run.name for change in changes(study) if change.placebo] == [
        "pythia-160k-intervention-placebo", "pythia-160k-seed1-intervention-placebo",
    ]  # fmt: skip
    tables = made(study)
    placebo = tables["pronouns_placebo"]
    assert placebo["step"].tolist() == [4, 8, 4, 8] and (placebo["unlike"] == 0).all()
    assert (placebo["values"] == 180 * 2 * 7).all()
    effects = tables["pronouns_effects"]
    assert (effects.loc[effects["placebo"], ["difference", "changed_items"]] == 0).all(axis=None)
    path = paths.evaluation("pythia-160k-intervention-placebo", "zero-shot", 8).with_suffix(".samples.parquet")
    frame = pd.read_parquet(path)
    frame.loc[3, "value"] += 1e-12
    frame.to_parquet(path)
    assert made(study)["pronouns_placebo"]["unlike"].tolist() == [0, 1, 0, 0]


def test_two_scorers_are_refused(study: Study) -> None:
    path = paths.evaluation("pythia-160k", "zero-shot", 8)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"versions": {"lm-eval": "2"}}))
    with pytest.raises(UserError, match=r"step8.json: two scorers .* is no effect of the intervention"):
        made(study)


def test_without_interventions_or_the_task_tables_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = planted.study(sizes=("160k",))
    planted.write(plain, margin, items=20)
    tables = made(plain)
    assert tables["pronouns_effects"].empty and tables["pronouns_placebo"].empty and len(tables["pronouns"])
