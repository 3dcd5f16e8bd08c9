"""Which stretches of training give back steps that were not saved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.study import replayed
from scripts.study.inventory import Inventory
from scripts.study.replayed import Stretch
from scripts.study.study import Study, load, parse
from tests.fakes import Fakes

SMOKE = ROOT / "studies/smoke.yaml"
TINY = "pythia-tiny"  # saves 0, 1, 2, 4, 8, with optimizer state 0, 2, 8


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    made = Fakes(load(SMOKE), tmp_path)
    made.everything()
    return made


def grown(*extra: int) -> Study:
    content = read_yaml(SMOKE)
    content["checkpoints"]["schedule"]["extra"] = list(extra)
    return parse(content)


def found(study: Study, root: Path, *steps: int) -> list[Stretch]:
    return replayed.stretches(study, {TINY: steps}, Inventory(root))


def test_steps_that_begin_at_one_state_are_one_stretch(fakes: Fakes) -> None:
    assert found(fakes.study, fakes.root, 3, 7, 5) == [Stretch(TINY, 2, 8, (3, 5, 7))]
    assert found(fakes.study, fakes.root, 3) == [Stretch(TINY, 2, 4, (3,))]
    assert found(fakes.study, fakes.root, 3)[0].files(fakes.study) == [
        f"replayed/checkpoints/{TINY}/global_step3/manifest.json"
    ]


def test_states_and_steps_that_were_deleted_are_gone_round(fakes: Fakes) -> None:
    shutil.rmtree(fakes.root / f"checkpoints/{TINY}/global_step2")
    shutil.rmtree(fakes.root / f"checkpoints/{TINY}/global_step4")
    assert found(fakes.study, fakes.root, 3) == [Stretch(TINY, 0, 8, (3,))]
    assert found(fakes.study, fakes.root, 4) == [Stretch(TINY, 0, 4, (4,))]  # the run's manifest knows its hash
    shutil.rmtree(fakes.root / f"checkpoints/{TINY}/global_step8")
    with pytest.raises(UserError, match=f"checkpoints/{TINY}: lacks its last step, so step 3 can't be made again"):
        found(fakes.study, fakes.root, 3)


def test_a_run_that_is_not_trained_will_have_what_its_schedule_says(tmp_path: Path) -> None:
    assert found(load(SMOKE), tmp_path, 5) == [Stretch(TINY, 2, 8, (5,))]


def test_an_adopted_run_has_no_seed_to_begin_from(fakes: Fakes) -> None:
    content: dict[str, Any] = read_yaml(SMOKE)
    parent = {"folder": "elsewhere", "size": "tiny", "corpus": "standard", "seed": 1234, "step": 3}
    content["interventions"] = {"on": {"parent": parent}}
    study = parse(content)
    (name,) = (run for run in study.runs if run.endswith("-on"))
    with pytest.raises(UserError, match="has no stored optimizer state at or before step 5"):
        replayed.stretches(study, {name: [5]}, Inventory(fakes.root))


def test_a_schedule_that_grew_asks_for_its_new_steps_in_their_own_place(fakes: Fakes) -> None:
    study = grown(3, 6)
    assert replayed.added(study, fakes.root) == {run: [3, 6] for run in study.trained}
    (mine,) = (s for s in replayed.asked_for(study, [], Inventory(fakes.root)) if s.run == TINY)
    assert mine == Stretch(TINY, 2, 8, (3, 6))
    assert mine.files(study)[0] == f"checkpoints/{TINY}/global_step3/manifest.json"
    fakes.manifest(mine.files(study)[0], "checkpoint", study.train_settings(TINY), {"run": TINY, "step": 3})
    left = [s for s in replayed.asked_for(study, [], Inventory(fakes.root)) if s.run == TINY]
    assert left == [Stretch(TINY, 2, 8, (6,))]


def test_a_longer_run_is_another_run(fakes: Fakes) -> None:
    content = read_yaml(SMOKE)
    content["training"]["steps"] = 16
    assert replayed.added(parse(content), fakes.root) == {}
    assert replayed.asked_for(parse(content), [], Inventory(fakes.root)) == []  # the start refuses it, with the ways


@pytest.mark.parametrize(
    ("target", "steps"),
    [
        (f"models/{TINY}/step3/manifest.json", (3,)),
        (f"./results/evals/{TINY}/zero-shot/step5.json", (5,)),
        (f"replayed/checkpoints/{TINY}/global_step6/manifest.json", (6,)),
        (f"models/{TINY}/step4/manifest.json", ()),
        ("results/index.html", ()),
        ("train", ()),
    ],
)
def test_targets_ask_for_the_steps_in_their_paths(target: str, steps: tuple[int, ...], fakes: Fakes) -> None:
    stretches = replayed.asked_for(fakes.study, [target], Inventory(fakes.root))
    assert [stretch.steps for stretch in stretches] == ([steps] if steps else [])


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (f"models/{TINY}/step9/manifest.json", "9 is not allowed\n  allowed: 0 to 8\n  write:   step 8"),
        (
            f"checkpoints/{TINY}/global_step3/manifest.json",
            f"replayed/checkpoints/{TINY}/global_step3/manifest.json, or",
        ),
    ],
)
def test_steps_that_cannot_be_had_are_refused(target: str, said: str, fakes: Fakes) -> None:
    with pytest.raises(UserError) as error:
        replayed.asked_for(fakes.study, [target], Inventory(fakes.root))
    assert said in str(error.value)


def test_published_runs_have_only_the_steps_that_were_published() -> None:
    study = load(ROOT / "studies/pythia-published.yaml")
    run = next(iter(study.external))
    missing = max(study.steps(run)) - 1
    with pytest.raises(UserError, match="the steps that were published"):
        replayed.unscheduled(study, {run: [missing]})


def test_a_job_finds_the_stretches_its_workflow_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(replayed.ASKED, raising=False)
    assert replayed.inherited(None) == []
    begun = [Stretch(TINY, 2, 8, (3, 5))]
    monkeypatch.setenv(replayed.ASKED, "[]")
    assert replayed.inherited(begun) == begun == replayed.inherited(None)


def test_unscheduled_steps_are_cut_into_batches_as_others_are(fakes: Fakes) -> None:
    content = read_yaml(SMOKE)
    content["runtime"]["checkpoints_per_batch"] = 2
    made = replayed.batches(parse(content), {TINY: [3, 5, 6], "pythia-small": [7]})
    assert [(batch.runs, batch.steps, batch.label) for batch in made] == [
        ([TINY], [3], "3_3_replayed0"),
        ([TINY], [5, 6], "5_6_replayed0"),
        (["pythia-small"], [7], "7_7_replayed1"),
    ]
