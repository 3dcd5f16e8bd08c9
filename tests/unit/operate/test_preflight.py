"""What is refused before the first job: by the study's own words, the files it names, and the machine."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.operate import preflight
from scripts.operate.preflight import check_devices, check_files, check_names, check_parents, check_published_scores
from scripts.study.study import Study, load, merged, parse
from scripts.study.texts import check_braces, files_of, holdable, matching, within

SMOKE = ROOT / "studies/smoke.yaml"


def changed(*changes: tuple[list[Any], Any]) -> Study:
    """The smoke study with the values at these keys."""
    content = copy.deepcopy(read_yaml(SMOKE))
    for path, value in changes:
        place = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    return parse(content)


CUDA = (["runtime", "device"], "cuda")


@pytest.mark.parametrize(
    ("found", "changes", "told"),
    [
        (0, [CUDA], "runtime.device: 'cuda' is not allowed\n .*this machine shows no CUDA device"),
        (1, [CUDA], None),
        (1, [CUDA, (["runtime", "processes"], 2)], "at most 1, the CUDA devices of this machine"),
        (1, [CUDA, (["runtime", "memorization_processes"], 2)], "runtime.memorization_processes: 2 .*\n .*at most 1"),
        (4, [CUDA, (["runtime", "processes"], 2), (["runtime", "memorization_processes"], 2)], None),
        (0, [(["runtime", "processes"], 4), (["runtime", "processes_per_node"], 2)], "at most 2 .* --profile slurm"),
        (0, [(["runtime", "compile"], True)], "there is no C\\+\\+ compiler"),
        (0, [], None),
    ],
)
def test_what_this_machine_cannot_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, found: int, changes: list[Any], told: str | None
) -> None:
    monkeypatch.setattr(preflight, "cuda_devices", lambda: found)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CXX", "no-such-compiler")
    study = changed(*changes)
    if told is None:
        check_devices(study)
    else:
        with pytest.raises(UserError, match=told):
            check_devices(study)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ({"vocabulary": 268}, None, "data.tokenizer.vocabulary: 268 is not allowed"),
        ({"vocabulary": 2048, "file": "{}/none.json"}, None, "none.json does not exist"),
        ({"vocabulary": 2048, "file": "{}/text.json"}, "{}", "text.json: not a tokenizer.json"),
    ],
)
def test_a_tokenizer_that_cannot_be_is_refused(tmp_path: Path, key: dict[str, Any], value: str, told: str) -> None:
    (tmp_path / "text.json").write_text(value or "")
    wanted = {name: text.format(tmp_path) if isinstance(text, str) else text for name, text in key.items()}
    with pytest.raises(UserError, match=told):
        check_files(changed((["data", "tokenizer"], wanted)))


def test_a_folder_without_the_checkpoint_that_is_gone_on_from_is_refused(tmp_path: Path) -> None:
    parent = {"folder": str(tmp_path), "step": 4, "size": "tiny", "corpus": "standard", "seed": 1234}
    study = changed((["interventions"], {"x": {"parent": parent}}))
    with pytest.raises(UserError, match=r"interventions\.x\.parent\.folder: .* holds no NeoX checkpoint of step 4"):
        check_parents(study)
    (tmp_path / "global_step4").mkdir()
    (tmp_path / "global_step4/mp_rank_00_model_states.pt").touch()
    check_parents(study)


def test_a_mistyped_task_is_refused() -> None:
    task_set = next(iter(read_yaml(SMOKE)["evaluation"]["task_sets"]))
    with pytest.raises(UserError, match="castalia_last_word"):
        check_names(changed((["evaluation", "task_sets", task_set, "tasks"], ["castalia_last_wrod"])))


def test_brackets_in_a_file_name_are_no_glob_and_wildcards_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "of [1]"
    folder.mkdir()
    names = ["a[2].txt", "b{}.txt", "c{1}.txt"]
    for name in names:
        (folder / name).touch()
    assert matching(str(folder / names[0])) == [folder / names[0]] == within(folder, names[0])
    assert within(folder, "*.txt") == [folder / name for name in names]
    assert holdable(within(folder, "*")) == [str(folder / name) for name in names[:2]]
    with pytest.raises(UserError, match=r"key: .*c\{1\}\.txt: Snakemake takes \{1\}"):
        check_braces("key", within(folder, "*"))
    study = changed((["data", "components", "verse"], {"files": [str(folder / names[2])]}))
    with pytest.raises(UserError, match="ln -s"):
        files_of("verse", study.file.data.components["verse"])


def test_published_scores_that_cannot_be_read_are_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("model,step,value\n")
    (tmp_path / "folder").mkdir()
    for place, fact in (("scores.csv", "no column"), ("folder", r"holds no \.json"), ("absent", "does not exist")):
        with pytest.raises(UserError, match=fact):
            check_published_scores(str(tmp_path / place))
    (tmp_path / "folder/a.json").write_text("{}")
    check_published_scores(str(tmp_path / "folder"))


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    study = changed(
        (["data", "components", "verse"], {"files": ["~/a.txt"]}),
        (["data", "tokenizer", "file"], "~/t.json"),
        (["evaluation", "external"], "~/scores"),
    )
    assert study.file.data.components["verse"].files == [f"{tmp_path}/a.txt"]
    assert study.file.data.tokenizer.file == os.path.join(tmp_path, "t.json")  # noqa: PTH118
    assert study.file.evaluation.external == f"{tmp_path}/scores"


def test_seed_0_is_a_seed_and_a_component_may_be_called_no(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    text = SMOKE.read_text().replace("    verse:", "    no:").replace("verse", '"no"')
    path.write_text(text.replace("seeds: [1234]", "seeds: [0]"))
    study = load(path)
    assert "no" in study.file.data.components and all("seed0" in name for name in study.trained)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("s.json", '{\n "a": 1\n "b": 2}', "not JSON .*line 3 column 2"),
        ("s.json", "[1]", "list and no mapping"),
        ("s.json", None, "no such file"),
        ("s.yaml", "study: x\n\tfamily: y\n", "line 2, column 1: a tab"),
    ],
)
def test_a_study_file_that_cannot_be_read_is_told_by_name(
    tmp_path: Path, name: str, text: str | None, told: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name}.*{told}"):
        load(tmp_path / name)


def test_later_files_and_config_go_over_earlier_ones(tmp_path: Path) -> None:
    one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
    one.write_text("a: {b: 1, c: {d: 1e-5}}\ne: [1]\n")
    two.write_text("a: {c: {f: 2}}\ne: [2]\n")
    assert merged([one, two], {"a": {"b": 3}}) == {"a": {"b": 3, "c": {"d": 1e-5, "f": 2}}, "e": [2]}
