"""What is acquired, lost and added by size, where it is planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.common.errors import UserError
from scripts.evaluate.agreement import PHENOMENA
from scripts.evaluate.names import AGREEMENT
from scripts.evaluate.passages import draw
from scripts.science import phenomena
from scripts.science.trajectories import made
from scripts.study import paths
from scripts.study.runs import Run
from tests.unit.science import planted


def noise(*parts: object) -> float:
    """Uniform between -1 and 1, always the same of the same parts."""
    return draw(7, *parts) / 2**63 - 1


def margin(run: Run, step: int, task: str, item: planted.Item) -> float:
    """The large size acquires agreement at step 2 and has articles at steps 2 and 4 alone; all have a taste for
    pronouns from the start, of which training makes nothing."""
    gain = 0.1 * noise(run.name, step, task, item["number"])
    large = run.size.name == "1.7m"
    gain += 1.5 * (large and item.get("phenomenon") == "subject_verb" and step >= 2)
    gain += 1.5 * (large and item.get("phenomenon") == "article" and step in (2, 4))
    gain += 1.0 * (item.get("phenomenon") == "pronoun_case")
    return gain


def test_what_is_planted_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = planted.study()
    planted.write(study, margin)
    tables = made(study)
    for name, again in made(study).items():
        pd.testing.assert_frame_equal(tables[name], again)
    table = tables["acquisition"]
    table = table[table["measure"] == "margin"].set_index(["size", "phenomenon"])
    assert table.loc[("1.7m", "subject_verb"), "acquired"].tolist() == [2, 2]
    assert table.loc[("1.7m", "subject_verb"), "acquired_tokens"].tolist() == [2 * 4 * 128] * 2
    assert table.loc[("1.7m", "article"), "lost"].all() and table.loc[("1.7m", "article"), "acquired"].isna().all()
    assert (table.loc[("1.7m", "article"), "fall_p"] < 0.05).all()
    named = [each for each in table.index.unique() if each[1] not in ("subject_verb", "article", "all")]
    assert table.loc[named, "acquired"].isna().all(), "a taste that was there before training is not acquired"
    assert set(table.index.get_level_values(1)) == {*PHENOMENA, "all"}


def test_size_is_told_with_its_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = planted.study()
    planted.write(study, margin)
    table = made(study)["trajectories_sizes"]
    table = table[table["measure"] == "margin"].set_index("phenomenon")
    grown = table.loc["subject_verb"]
    assert (grown["small"], grown["large"], grown["pairs"], grown["seed_freedom"]) == ("160k", "1.7m", 2, 2)
    assert grown["difference"] == pytest.approx(1.5, abs=0.1) and grown["holm"] < 0.01
    assert grown["judged_low"] < 1.5 < grown["judged_high"]
    others = table.drop(["subject_verb", "all"])
    assert (others["holm"] > 0.05).all() and (others["detectable"] < 0.5).all()


def test_the_means_are_those_of_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = planted.study(sizes=("160k",))
    planted.write(study, margin)
    tables = made(study)
    assert tables["trajectories_sizes"].empty and "holm" in tables["trajectories_sizes"]
    table = tables["trajectories"]
    row = table[(table["step"] == 4) & (table["phenomenon"] == "article") & (table["run"] == "pythia-160k")]
    items = [item for item in planted.agreement_items(180, 1) if item["phenomenon"] == "article"]
    places = [place for place, item in enumerate(planted.agreement_items(180, 1)) if item["phenomenon"] == "article"]
    expected = [0.1 * noise("pythia-160k", 4, AGREEMENT, place) for place in places]
    of = row.set_index("measure")["value"]
    assert of["margin"] == pytest.approx(np.mean(expected)) and of["acc"] == np.mean(np.array(expected) > 0)
    assert (row["units"] == len(items) / 2).all() and row["tokens"].unique().tolist() == [4 * 4 * 128]


def test_tasks_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="castalia_agreement"):
        phenomena.of_items(AGREEMENT, pd.Index([0]))
    paths.TASKS.mkdir(parents=True)
    (paths.TASKS / f"{AGREEMENT}.jsonl").write_text('{"phenomenon": "article", "two": "a"}\n')
    with pytest.raises(UserError, match="1 items, the samples hold number 3"):
        phenomena.of_items(AGREEMENT, pd.Index([0, 3]))
    of = phenomena.of_items("blimp_wh_island", pd.Index([0, 1]))
    assert of["phenomenon"].tolist() == ["island_effects"] * 2 and of["unit"].tolist() == ["0", "1"]
