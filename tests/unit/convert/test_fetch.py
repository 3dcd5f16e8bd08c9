"""Published runs of a study: their configuration, and fetching them from folders, native files and a stand-in hub."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file

from scripts.common import manifest
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_json, read_yaml
from scripts.convert import external_source, fetch
from scripts.convert.publish import revisions
from scripts.convert.publish.hub import to_hub
from scripts.convert.publish.local import named
from scripts.neox.weights import to_transformers
from scripts.operate.status.status import gather
from scripts.plan.costs import plan_run
from scripts.plan.jobs import jobs_by_rule
from scripts.study import targets
from scripts.study.devices import TABLE, read_devices
from scripts.study.manifests import ModelFacts, TokenizerFacts
from scripts.study.stages import CONVERT
from scripts.study.storage import kept
from scripts.study.study import Study, load, parse
from tests.fakes import Fakes
from tests.unit import external_models, neox_writer
from tests.unit.external_models import RUN, STEPS
from tests.unit.hub_stand_in import Hub

THEIRS = "their-tiny"


def study(*, runs: bool = False, **entry: Any) -> Study:
    content = read_yaml(ROOT / "studies/smoke.yaml")
    content["data"]["tokenizer"]["vocabulary"] = 300
    content["sizes"] = {"tiny": {"layers": 1, "width": 32, "heads": 2, "learning_rate": 0.003}}
    content["runs"] = [{**content["runs"][0], "sizes": ["tiny"]}] if runs else []
    asked = {"folder": f"models/{RUN}", "steps": STEPS, "size": "tiny", "corpus": "elsewhere"} | entry
    content["external"] = {THEIRS: {key: value for key, value in asked.items() if value is not None}}
    return parse(content)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, here = tmp_path_factory.mktemp("run"), Path.cwd()
    os.chdir(folder)
    try:
        external_models.make(folder)
        tokenizer = Path("data/tokenizer")
        files = list(tokenizer.iterdir())
        settings = study().tokenizer_settings()
        manifest.write(tokenizer, TokenizerFacts(300, 0), subject={}, files=files, settings=settings)
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def workplace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "study"


def model(step: int, run: str = THEIRS) -> Path:
    return Path(f"models/{run}/step{step}")


def refused(asked: Study, steps: list[int] | None = None) -> str:
    with pytest.raises(UserError) as error:
        fetch.fetch(asked, THEIRS, steps or STEPS)
    return str(error.value)


# --- the study file ----------------------------------------------------------------------------


def test_published_runs_are_in_the_run_table_and_not_trained() -> None:
    asked = study(runs=True, corpus="standard")
    assert (list(asked.trained), list(asked.external)) == (["pythia-tiny"], [THEIRS])
    assert asked.steps(THEIRS) == asked.memorization_steps(THEIRS) == STEPS
    assert asked.optimizer_steps(THEIRS) == []
    assert asked.run(THEIRS).steps_trained == 0
    assert targets.checkpoints(asked) == ["checkpoints/pythia-tiny/manifest.json"]
    assert f"models/{THEIRS}/step4/manifest.json" in CONVERT.files(asked)
    assert targets.tables(asked) == targets.TABLES
    assert kept(asked, THEIRS).weights == 0 < kept(asked, THEIRS).models


def test_a_study_may_train_nothing() -> None:
    asked = study()
    assert asked.memorization_steps(THEIRS) == []  # the study has no corpus of that name
    assert targets.orders(asked) == targets.checkpoints(asked) == []
    assert targets.results(asked) == ["results/index.html", "results/compare.html"]
    assert targets.tables(asked) == ["results/tables/evals.parquet", "results/tables/evals.csv"]
    jobs = jobs_by_rule(asked)
    assert jobs["fetch_models"] == 1
    assert not {"train_run", "convert", "memorize", "order", "figures"} & set(jobs)
    device = read_devices(TABLE)["laptop"]
    plan = plan_run(asked, THEIRS, device, None)
    assert (plan.flops.training, plan.tokens, plan.optimizer_bytes_at_all_steps) == (0, 0, 0)
    assert plan.flops.held_out in (None, 0)


def test_status_of_a_study_of_published_runs(tmp_path: Path) -> None:
    asked = study(corpus="standard")
    fakes = Fakes(asked, tmp_path)
    fakes.data()
    status = gather(asked, tmp_path, 0.0)
    assert [stage.state.value for stage in status.runs[0].stages] == ["complete", "missing", "missing", "missing"]
    path, settings = f"models/{THEIRS}/step{{}}/manifest.json", asked.external_settings(THEIRS)
    for step in STEPS:
        fakes.manifest(
            path.format(step), "model", settings, {"run": THEIRS, "step": step}, ["data/tokenizer/manifest.json"]
        )
    fakes.scores(THEIRS, "zero-shot")
    fakes.memorization(THEIRS)
    for file in (*targets.tables(asked), *targets.results(asked), *targets.cards(asked)):
        fakes.write(file, {})
    assert gather(asked, tmp_path, 0.0).complete


def test_the_shipped_study_names_the_27_published_steps() -> None:
    shipped = load(ROOT / "studies/pythia-published.yaml")
    assert not shipped.trained
    for name, run in shipped.external.items():
        assert len(shipped.steps(name)) == 27
        assert run.external is not None
        assert run.external.repo == f"EleutherAI/{name}"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"repo": "a/b"}, "give exactly one of `repo` and `folder`"),
        ({"folder": None}, "give exactly one of `repo` and `folder`"),
        ({"folder": None, "repo": "alone"}, "is not of the form owner/name"),
        ({"steps": [4, 2]}, r"steps must increase; write: steps: \[2, 4\]"),
        ({"steps": []}, "steps"),
        ({"revision": "../{step}"}, "revision"),
        ({"revision": "step/{step}"}, "revision"),
        ({"revision": "main"}, "`revision` must hold"),
        ({"folder": None, "repo": "a/b", "weights": "neox"}, "native checkpoints are read from a folder"),
        ({"size": "tinny"}, r"external\.their-tiny\.size: 'tinny' is not allowed(.|\n)*write:   size: tiny"),
    ],
)
def test_mistakes_in_the_study_file_are_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study(**entry)


# --- folders -----------------------------------------------------------------------------------


def test_models_in_a_folder_are_taken_byte_for_byte(workplace: Path) -> None:
    fetch.fetch(study(), THEIRS, STEPS)
    for step in STEPS:
        content = manifest.verify(model(step), ModelFacts)
        assert content.subject == {"run": THEIRS, "step": step}
        weights = model(step) / "model.safetensors"
        assert weights.samefile(model(step, RUN) / "model.safetensors")
        assert content.facts.source and content.facts.source.revision == f"step{step}"
        assert (content.facts.tokenizer_texts or 0) > 50
    assert read_json(model(1) / manifest.NAME)["facts"]["unchanged"] == fetch.KNOWN[1]
    assert read_json(model(2) / manifest.NAME)["facts"]["unchanged"] is None


def test_pickled_weights_are_rewritten_and_never_executed(workplace: Path) -> None:
    from tests.unit.neox.test_parity import Harm

    path = model(2, RUN) / "model.safetensors"
    state = load_file(path)
    torch.save(state, path.with_name("pytorch_model.bin"))
    path.unlink()
    harmful = model(4, RUN) / "model.safetensors"
    harmful.unlink()
    torch.save({"embed_out.weight": Harm(workplace / "harmed")}, harmful.with_name("pytorch_model.bin"))
    told = refused(study(), [2, 4])
    assert "step 4: " in told
    assert "pytorch_model.bin: holds the class" in told
    assert "step 2: " not in told
    assert not (workplace / "harmed").exists()
    found = load_file(model(2) / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert not (model(2) / "pytorch_model.bin").exists()
    assert not model(4).exists()


def test_everything_wrong_with_the_steps_is_listed_at_once(workplace: Path) -> None:
    shutil.rmtree(model(1, RUN))
    shutil.copy(model(4, RUN) / "model.safetensors", model(2, RUN) / "model.safetensors")
    (model(0, RUN) / "model.safetensors").unlink()
    told = refused(study())
    assert "step 1: no folder" in told
    assert "step 0: " in told and "none of model.safetensors" in told
    assert f"{THEIRS}: step 2 and step 4 hold the same weights" in told
    assert not Path(f"models/{THEIRS}").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_attention_heads": 4},
            "step 2: config.json is not that of size tiny: num_attention_heads is 4, expected 2",
        ),
        ({"dtype": "float16"}, "dtype is 'float16', training.precision is fp32"),
        ({"max_position_embeddings": 2048}, "max_position_embeddings is 2048, expected 64"),
        ({"rope_parameters": {"partial_rotary_factor": 1.0}}, "partial_rotary_factor is 1.0, expected 0.25"),
    ],
)
def test_a_config_that_is_not_the_catalogues_is_refused(workplace: Path, change: dict[str, Any], message: str) -> None:
    path = model(2, RUN) / "config.json"
    path.write_text(json.dumps({**read_json(path), **change}))
    assert message in refused(study(), [2])
    assert not model(2).exists()


def test_weights_that_are_not_the_configs_are_refused(workplace: Path) -> None:
    path = model(2, RUN) / "model.safetensors"
    state = load_file(path)
    state["gpt_neox.layers.0.attention.dense.weight"] = torch.zeros(32, 16)
    save_file(state, path, metadata={"format": "pt"})
    assert "attention.dense.weight of layer 2 has shape (32, 16), config.json says (32, 32)" in refused(study(), [2])
    path.write_bytes(path.read_bytes()[:500])
    assert "truncated, or no safetensors file" in refused(study(), [2])


def test_another_tokenizer_is_refused(workplace: Path) -> None:
    path = model(2, RUN) / "tokenizer.json"
    content = read_json(path)
    content["normalizer"] = None
    path.write_text(json.dumps(content))
    assert "its tokenizer gives" in refused(study(), [2])


# --- native checkpoints ------------------------------------------------------------------------


def native(**entry: Any) -> Study:
    return study(**{"folder": f"checkpoints/{RUN}", "revision": "global_step{step}", "weights": "neox", **entry})


def test_native_checkpoints_are_converted_and_proven(workplace: Path) -> None:
    fetch.fetch(native(), THEIRS, STEPS)
    for step in STEPS:
        state = load_file(model(step) / "model.safetensors")
        whole = to_transformers(external_models.layers(max(step, 1)), 1)
        assert torch.equal(state["gpt_neox.embed_in.weight"], whole["gpt_neox.embed_in.weight"])
        facts = read_json(model(step) / manifest.NAME)["facts"]
        assert facts["max_logit_difference"] <= facts["tolerance"]
    assert read_json(model(1) / manifest.NAME)["facts"]["unchanged"] == fetch.KNOWN[1]


def test_native_steps_are_compared_by_their_tensors_and_their_step(workplace: Path) -> None:
    """In the sequential layout the one file also names the step, so equal weights don't make equal files."""
    for step in (2, 4):
        folder = Path(f"checkpoints/{RUN}/global_step{step}")
        shutil.rmtree(folder)
        folder.mkdir()
        external_models.neox_write.write(
            folder, external_models.layers(9), external_models.SHAPE, step=step, sequential=True
        )
    assert f"{THEIRS}: step 2 and step 4 hold the same weights" in refused(native(), [2, 4])
    Path(f"checkpoints/{RUN}/global_step4").rename("aside")
    Path(f"checkpoints/{RUN}/global_step0").rename(f"checkpoints/{RUN}/global_step4")
    told = refused(native(), [4])
    assert f"step 4: checkpoints/{RUN}/global_step4: holds step 0" in told


def test_a_native_checkpoint_of_another_size_is_refused_with_a_list(workplace: Path) -> None:
    wide = neox_writer.Model(blocks=1, width=64, vocabulary=384, data_parallel=1)
    neox_writer.write(Path("wide/global_step2"), wide)
    neox_writer.write(Path("wide/global_step4"), neox_writer.Model(blocks=2, width=64, vocabulary=384, data_parallel=1))
    told = refused(native(folder="wide", steps=[2, 4]), [2, 4])
    assert "step 4: wide/global_step4: layers [0, 2, 3, 5, 6], a model of 1 blocks has" in told
    told = refused(native(folder="wide", steps=[2]), [2])
    assert "width: 64 by the shapes of its tensors" in told
    assert "but 32 by the catalogue's tiny" in told


# --- the hub -----------------------------------------------------------------------------------


@pytest.fixture
def hub(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A stand-in with the run published on it."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    stand_in = Hub()
    wanted = named(revisions.revisions(RUN, STEPS, Path("results/cards") / RUN), STEPS[-1])
    to_hub(HfApi(endpoint=stand_in.url, token="none"), f"castalia/{RUN}", wanted, False, private=False)

    def source_of(asked: Any, staging: Path) -> external_source.HubSource:
        return external_source.HubSource(asked, staging, HfApi(endpoint=stand_in.url))

    monkeypatch.setattr(fetch, "source_of", source_of)
    yield stand_in
    stand_in.close()


def hub_study(**entry: Any) -> Study:
    return study(folder=None, repo=f"castalia/{RUN}", **entry)


def test_what_was_published_on_the_hub_comes_back_byte_for_byte(hub: Hub) -> None:
    fetch.fetch(hub_study(), THEIRS, STEPS)
    for step in STEPS:
        content = manifest.verify(model(step), ModelFacts)
        weights = (model(step) / "model.safetensors").read_bytes()
        assert weights == (model(step, RUN) / "model.safetensors").read_bytes()
        assert content.facts.source and content.facts.source.commit == hub.sha(hub.branches[f"step{step}"])
    assert not list(Path(f"models/{THEIRS}/.fetched").glob("*"))


def test_missing_branches_and_duplicates_are_known_before_any_weight_is_downloaded(hub: Hub) -> None:
    del hub.branches["step0"]
    hub.branches["step2"] = hub.branches["step4"]
    told = refused(hub_study())
    assert f"step 0: castalia/{RUN} has no branch step0" in told
    assert f"{THEIRS}: step 2 and step 4 hold the same weights" in told
    assert hub.downloads == 0


def test_a_download_that_came_out_different_is_refused_and_fetched_anew(hub: Hub) -> None:
    hub.spoil = "model.safetensors"
    assert "model.safetensors came out different from its hash; run it again" in refused(hub_study(), [2])
    assert not model(2).exists()
    hub.spoil = None
    fetch.fetch(hub_study(), THEIRS, [2])
    assert (model(2) / "model.safetensors").read_bytes() == (model(2, RUN) / "model.safetensors").read_bytes()


def test_a_hub_that_is_not_reached_is_told_in_a_sentence(hub: Hub) -> None:
    hub.close()
    told = refused(hub_study(), [2])
    assert f"castalia/{RUN} could not be downloaded" in told
    assert "run it again where the hub is reached" in told


def test_what_the_hub_has_is_fetched_and_what_a_folder_has_is_not(tmp_path: Path) -> None:
    content = read_yaml(ROOT / "studies/pythia-published.yaml")
    name, other, *_ = content["external"]
    content["external"][other] |= {"repo": None, "folder": str(tmp_path)}
    study = parse(content)
    brought = [path.split("/")[1] for path in targets.fetched(study) if path.startswith("models/")]
    assert set(brought) == set(content["external"]) - {other}
    assert brought.count(name) == len(study.steps(name))
