"""Artefacts of other settings, texts or parents than the study's, whatever Snakemake remembers of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import digest_of, read_json, read_yaml, sha256_file, write_json
from scripts.operate.remembered import corrections
from scripts.operate.trained import check_shared, check_training
from scripts.study.fingerprints import Artefacts, of_data, of_models, of_training, require, run_settings, settings_of
from scripts.study.manifests import RawFile
from scripts.study.study import Study, load, parse
from tests.fakes import Fakes

SMOKE = ROOT / "studies/smoke.yaml"
TINY = "pythia-tiny"
STUDY_FILE = Path("results/study.json")


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    made = Fakes(load(SMOKE), tmp_path)
    made.everything()
    write_json(tmp_path / STUDY_FILE, made.study.file.model_dump())
    return made


def changed(path: str, value: Any) -> Study:
    content = read_yaml(SMOKE)
    *above, last = path.split("/")
    inner = content
    for key in above:
        inner = inner[key]
    inner[last] = value
    return parse(content)


def stale(study: Study, root: Path) -> dict[str, list[str]]:
    return Artefacts(study, root, texts=True).stale([*of_data(study), *of_training(study), *of_models(study)])


def test_a_finished_study_is_its_own(fakes: Fakes) -> None:
    assert stale(fakes.study, fakes.root) == {}
    asked = [*of_data(fakes.study), *of_training(fakes.study), *of_models(fakes.study)]
    assert all(settings_of(fakes.study, path) for path in asked)
    check_training(fakes.study, fakes.root)
    assert corrections(fakes.study, STUDY_FILE, fakes.root) == ([], [])


@pytest.mark.parametrize(
    ("key", "value", "first", "said", "refused"),
    [
        ("data/held_out_fraction", 0.2, "data/clusters", "held_out_fraction: 0.1 there, 0.2 asked", True),
        ("data/components/verse/take_characters", 50000, "data/sources/verse",
         "take_characters: 60000 there, 50000 asked", True),
        ("data/append_eod", True, "data/held-out", "append_eod: False there, True asked", True),
        ("training/batch_size", 8, f"checkpoints/{TINY}", "training.batch_size: 4 there, 8 asked", True),
        ("evaluation/own_tasks/items", 12, "data/tasks", "items: 10 there, 12 asked", False),
        ("evaluation/batch_size", 8, f"results/evals/{TINY}/zero-shot/step0.json", "batch_size: 32 there, 8 asked",
         False),
        ("memorization/prompt", 8, f"results/memorization/{TINY}/step0.parquet", "prompt: ", False),
        ("export/quantizations", ["f32"], "exports/pythia-small/step8", "quantizations: ", False),
        (
            "export/held_out_sequences", 6, "results/export/pythia-small/step8.json",
            "held_out_sequences: 4 there, 6 asked", False,
        ),
    ],
)  # fmt: skip
def test_other_settings_are_seen_without_snakemake(
    fakes: Fakes, key: str, value: Any, first: str, said: str, refused: bool
) -> None:
    """What is not under a run is made again; what is, is refused before the first job, by key and with a way out."""
    study = changed(key, value)
    path = first if first.endswith((".json", ".parquet")) else f"{first}/manifest.json"
    found = stale(study, fakes.root)
    assert said in "; ".join(found[path])
    assert path in corrections(study, STUDY_FILE, fakes.root)[0]
    if refused:
        with pytest.raises(UserError) as error:
            check_training(study, fakes.root)
        assert said in str(error.value) and f"rm -r checkpoints/{TINY}" in str(error.value)
        assert "--directory with another folder" in str(error.value)
    else:
        check_training(study, fakes.root)


def test_what_was_made_of_it_is_not_the_studys_either(fakes: Fakes) -> None:
    """Scores of a model of other settings, tasks of another split; a parent that is gone is no fault."""
    model = f"models/{TINY}/step8/manifest.json"
    content = read_json(fakes.root / model)
    write_json(fakes.root / model, {**content, "settings": {**content["settings"], "precision": "bf16"}})
    found = stale(fakes.study, fakes.root)
    assert found[model] == ["precision: 'bf16' there, 'fp32' asked"]
    assert found[f"results/evals/{TINY}/zero-shot/step8.json"] == [f"made from another {model} than there is now"]
    assert f"results/memorization/{TINY}/step8.parquet" in found
    (fakes.root / model).unlink()
    assert stale(fakes.study, fakes.root) == {}


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"settings": 3}', '{"parents": []}', "[" * 5000])
def test_a_manifest_that_cannot_be_read_is_made_again(fakes: Fakes, content: str) -> None:
    path = "data/tasks/manifest.json"
    (fakes.root / path).write_text(content)
    assert path in stale(fakes.study, fakes.root)


def test_manifests_that_name_each_other_as_parents_end(fakes: Fakes) -> None:
    one, other = "data/clusters/manifest.json", "data/tokenizer/manifest.json"
    for path, parent in ((one, other), (other, one)):
        write_json(fakes.root / path, {**read_json(fakes.root / path), "parents": {parent: "0" * 64}})
    with pytest.raises(UserError):
        check_training(fakes.study, fakes.root)


def test_no_consumer_uses_it(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fakes.root)
    require(fakes.study, Path("data/clusters"))
    said = (
        r"clusters/manifest.json: not made with the study's settings\n"
        r"  held_out_fraction: 0.1 there, 0.2 asked\n.* rm data/clusters/manifest.json"
    )
    with pytest.raises(UserError, match=said):
        require(changed("data/held_out_fraction", 0.2), Path("data/clusters"))
    held_out = Path("data/held-out/manifest.json")
    held_out.write_text(json.dumps(read_json(held_out)))  # the same settings, in other bytes
    said = r"tasks/manifest.json: not made from what the study has now\n  made from another data/held-out"
    with pytest.raises(UserError, match=said):
        require(fakes.study, Path("data/tasks"))


def test_data_of_another_study_behind_a_link_is_neither_used_nor_undone(fakes: Fakes, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "data").symlink_to(fakes.root / "data")
    check_shared(fakes.study, folder)
    with pytest.raises(UserError, match=r"out of this study's folder.*\n  held_out_fraction: 0.1 there, 0.2 asked"):
        check_shared(changed("data/held_out_fraction", 0.2), folder)
    check_shared(changed("data/held_out_fraction", 0.2), fakes.root)  # its own is made again


# --- raw texts ---------------------------------------------------------------------------------


@pytest.fixture
def of_files(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study with a component of two files, whose source is known."""
    monkeypatch.chdir(fakes.root)
    content = read_yaml(SMOKE)
    content["data"]["components"]["verse"] = {"files": ["texts/*.txt"], "reader": "text"}
    study = parse(content)
    known = {}
    for name in ("a", "b"):
        path = fakes.root / f"texts/{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        known[f"texts/{name}.txt"] = RawFile(1, sha256_file(path))
    fakes.study = study
    fakes.facts_of["data/sources/verse/manifest.json"] = {"files": known}
    fakes.data()
    for run in study.runs:
        fakes.checkpoints(run)
    return study


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: Path("texts/a.txt").write_text("longer"), "texts/a.txt: has 6 bytes, had 1"),
        (lambda: Path("texts/a.txt").write_text("c"), "texts/a.txt: has another sha256"),
        (lambda: Path("texts/c.txt").write_text("c"), "texts/c.txt: was not there"),
        (lambda: Path("texts/b.txt").unlink(), "texts/b.txt: is no longer there"),
    ],
)
def test_a_text_corrected_under_finished_runs_is_refused(of_files: Study, change: Any, said: str) -> None:
    check_training(of_files, Path())
    change()
    os.utime("data/sources/verse/manifest.json", (0, 0))  # the texts were written later
    assert "data/sources/verse/manifest.json" in corrections(of_files, STUDY_FILE)[0]
    with pytest.raises(UserError) as error:
        check_training(of_files, Path())
    assert said in str(error.value) and f"rm -r checkpoints/{TINY}" in str(error.value)


def test_other_parts_of_the_same_texts_are_seen(of_files: Study) -> None:
    """Part 0 of two holds other files than part 0 of one."""
    content = of_files.file.model_dump()
    content["runtime"]["data_parts"] = 2
    with pytest.raises(UserError, match=r"data/documents/verse/part-0/manifest.json: parts: 1 there, 2 asked"):
        check_training(parse(content), Path())


def test_a_text_that_was_only_touched_is_the_same(of_files: Study) -> None:
    os.utime("texts/a.txt", (2e9, 2e9))
    check_training(of_files, Path())


# --- batches, segments, and steps kept ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "moved"),
    [
        ("runtime/checkpoints_per_batch", 2, {f"models/{TINY}/step4/manifest.json",
                                              f"results/memorization/{TINY}/step1.parquet"}),
        ("runtime/segments", 2, {f"checkpoints/{TINY}/manifest.json"}),
        ("memorization/steps", [8], {f"results/memorization/{TINY}/step8.parquet"}),
    ],
)  # fmt: skip
def test_other_batches_and_segments_are_no_reason_to_run(fakes: Fakes, key: str, value: Any, moved: set[str]) -> None:
    study = changed(key, value)
    made_again, forgotten = corrections(study, STUDY_FILE, fakes.root)
    assert made_again == [] and moved <= set(forgotten)
    check_training(study, fakes.root)


def test_fewer_steps_may_be_asked_of_a_finished_run(fakes: Fakes) -> None:
    fewer = changed("checkpoints/schedule", {"log2_until": 2, "every": None, "extra": [8]})
    assert fewer.steps(TINY) == [0, 1, 2, 8]
    check_training(fewer, fakes.root)
    assert stale(fewer, fakes.root) == {}
    # their batch is named like the one before, 0_8
    assert f"models/{TINY}/step8/manifest.json" in corrections(fewer, STUDY_FILE, fakes.root)[1]
    assert run_settings(fewer, TINY, fakes.root)["steps"] == [0, 1, 2, 4, 8]
    (fakes.root / f"checkpoints/{TINY}/manifest.json").unlink()  # unfinished: its states name all steps they will have
    with pytest.raises(UserError, match="steps: "):
        check_training(fewer, fakes.root)


def test_more_steps_may_be_asked_of_a_finished_run(fakes: Fakes) -> None:
    more = changed("checkpoints/schedule", {"log2_until": 8, "every": 1, "extra": []})
    check_training(more, fakes.root)
    assert stale(more, fakes.root) == {}
    assert run_settings(more, TINY, fakes.root)["steps"] == [0, 1, 2, 4, 8]


def test_an_optimizer_state_that_was_dropped_is_refused_naming_those_kept(fakes: Fakes) -> None:
    more = changed("checkpoints/optimizer_states", {"log2_until": 0, "every": None, "extra": [2, 4]})
    with pytest.raises(UserError, match="optimizer states that it dropped are not put back; it kept those of 0, 2, 8"):
        check_training(more, fakes.root)


def test_lengthening_names_the_way_that_works(fakes: Fakes) -> None:
    content = read_yaml(SMOKE)
    content["training"]["steps"] = 16
    with pytest.raises(UserError) as error:
        check_training(parse(content), fakes.root)
    lines = str(error.value).splitlines()
    begin = lines.index("    interventions:")
    way = "\n".join(lines[begin : begin + 4])
    (fakes.root / "way.yaml").write_text(way)
    content["training"]["steps"] = 8
    longer = parse({**content, **read_yaml(fakes.root / "way.yaml")})
    child = longer.run(f"{TINY}-intervention-longer")
    assert (child.origin and child.origin.step, child.training.steps) == (8, 16)
    check_training(longer, fakes.root)


def test_fingerprints_of_valid_studies_stay(fakes: Fakes) -> None:
    """What a run's manifest holds is what it held before: nobody's checkpoints are undone by a comparison."""
    settings = read_json(fakes.root / f"checkpoints/{TINY}/manifest.json")["settings"]
    assert digest_of({key: settings[key] for key in settings if key != "parents"}) == digest_of(
        fakes.study.train_settings(TINY)
    )
