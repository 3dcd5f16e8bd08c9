"""The audit of the smoke study: sound if untouched, and every attack named by the artefact it was made on.

Attacks are made on copies. `forge` is an attacker who recomputes every hash that stands in a manifest or a result.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from scripts.audit.integrity import model_files, tokenizer_files
from scripts.audit.integrity.audit import against
from scripts.audit.integrity.checks import integrity
from scripts.audit.integrity.found import look
from scripts.audit.verdict import Check
from scripts.common.files import canonical, digest_of, read_json, read_yaml, sha256_file, write_json
from scripts.study.study import load
from tests import forks
from tests.workflow.conftest import ROOT, SMOKE, Workflow
from tests.workflow.test_training import RUN, study_file, train

DOCUMENTATION = ROOT / "docs/audit.md"
TINY, SMALL = "pythia-tiny", "pythia-small"


def audited(study_file: Path = Path("results/study.json")) -> dict[str, Check]:
    """The audit's checks of the working directory, by id."""
    return {check.id: check for check in integrity(load(study_file), 2, None).checks}


def failed(study_file: Path = Path("results/study.json")) -> dict[str, str]:
    """Evidence of the checks that fail."""
    return {name: "\n".join(check.evidence) for name, check in audited(study_file).items() if check.status == "fail"}


def flip(path: Path, place: int = -200) -> None:
    """Flip one bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON file."""
    content = read_json(path)
    change(content)
    write_json(path, content)


def forge(run: str) -> None:
    """Make all hashes of a run right again: of files, of parents down the chain, of models and what they gave."""
    study = load(Path("results/study.json"))
    steps = study.steps(run)
    for name in [*(f"checkpoints/{run}/global_step{step}" for step in steps), f"checkpoints/{run}",
                 *(f"models/{run}/step{step}" for step in steps),
                 *(f"exports/{run}/step{step}" for step in study.export_steps(run))]:  # fmt: skip
        path = Path(name) / "manifest.json"
        content = read_json(path)
        content["files"] = {
            file: {"sha256": sha256_file(path.parent / file), "bytes": (path.parent / file).stat().st_size}
            for file in content["files"]
        }
        content["parents"] = {parent: sha256_file(Path(parent)) for parent in content["parents"]}
        write_json(path, content)
    for step in steps:
        model = sha256_file(Path(f"models/{run}/step{step}/manifest.json"))
        for path in Path(f"results/evals/{run}").glob(f"*/step{step}.json"):
            samples = sha256_file(path.with_suffix(".samples.parquet"))
            edit(path, lambda content, model=model, samples=samples: content.update(model=model, samples=samples))
        for path in Path(f"results/export/{run}").glob(f"step{step}.json"):
            edit(path, lambda content, model=model: content.update(model=model))
        path = Path(f"results/memorization/{run}/step{step}.parquet")
        table = pq.read_table(path)
        facts = json.loads(table.schema.metadata[b"castalia"]) | {"model": model}
        pq.write_table(table.replace_schema_metadata({"castalia": canonical(facts)}), path)


# --- untouched suites: no false alarm ---------------------------------------------------------------


def test_the_untouched_study_is_sound(finished: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.folder)
    checks = audited()
    statuses = {name: check.status for name, check in checks.items()}
    assert "fail" not in statuses.values(), [check for check in checks.values() if check.status == "fail"]
    assert {name for name, status in statuses.items() if status == "not applicable"} <= {
        "seeds",
        "own_beginning",
        "drift",
    }
    assert "pythia-tiny step 0 and pythia-tiny step 1" in checks["unique"].evidence[0]  # learning rate 0


def test_the_workflow_ends_with_the_verdict(finished: Workflow) -> None:
    verdict = read_json(finished.folder / "results/audit/verdict.json")
    assert verdict["verdict"] == "pass"
    assert {"integrity.files", "integrity.chain", "integrity.path"} <= {check["id"] for check in verdict["checks"]}
    page = (finished.folder / "results/audit.html").read_text()
    assert "The smoke suite is sound" in page and "<svg" in page
    assert read_json(finished.folder / "results/suite.lock.json")["root"] in page
    assert "audit.html" in (finished.folder / "results/index.html").read_text()


@pytest.mark.slow
def test_a_run_of_two_processes_is_sound(finished: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(finished.folder / "data", tmp_path / "data", ignore=shutil.ignore_patterns("order-*"))
    study = study_file(tmp_path, "study", processes=2)
    workflow = Workflow(tmp_path, study)
    workflow.succeed("data")
    train(tmp_path, study, processes=2)
    workflow.succeed("results/audit.html")
    monkeypatch.chdir(tmp_path)
    assert read_json(Path(f"checkpoints/{RUN}/global_step0/manifest.json"))["facts"]["processes"] == 2
    assert read_json(Path("results/audit/integrity.json"))["verdict"] == "pass"


# --- attacks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        f"checkpoints/{TINY}/global_step4/layer_02-model_00-model_states.pt",
        f"checkpoints/{TINY}/global_step8/zero_pp_rank_0_mp_rank_00_optim_states.pt",
        f"models/{TINY}/step4/model.safetensors",
        "data/standard/tokens.bin",
        f"results/evals/{TINY}/zero-shot/step4.samples.parquet",
    ],
)
def test_one_flipped_bit(suite: Path, name: str) -> None:
    flip(Path(name))
    found = failed()
    assert any(name in evidence for evidence in found.values()), found
    if "results" not in name:
        assert name in found["files"]


def test_two_checkpoints_swapped(suite: Path) -> None:
    one, two = (Path(f"checkpoints/{TINY}/global_step{step}") for step in (2, 4))
    one.rename("aside"), two.rename(one), Path("aside").rename(two)
    found = failed()
    for check in ("names", "inside", "parents", "chain"):
        assert "global_step2" in found[check] and "global_step4" in found[check], check


def test_two_checkpoints_swapped_by_somebody_who_forges(suite: Path) -> None:
    """Every name, step and hash is made right: the weights are on another path, and the models' are another's."""
    one, two = (Path(f"checkpoints/{TINY}/global_step{step}") for step in (2, 4))
    for path in list(one.glob("layer_*")):
        path.rename("aside"), (two / path.name).rename(path), Path("aside").rename(two / path.name)
    forge(TINY)
    found = failed()
    assert set(found) >= {"path", "converted", "bound"} and "names" not in found and "files" not in found
    assert "global_step2" in found["path"] and f"models/{TINY}/step2/model.safetensors" in found["converted"]


def test_a_step_copied_over_another(suite: Path) -> None:
    source, target = (Path(f"checkpoints/{TINY}/global_step{step}") for step in (4, 8))
    shutil.rmtree(target)
    shutil.copytree(source, target)
    found = failed()
    assert f"{target}/manifest.json: its manifest is of" in found["names"]
    assert f"{source} and {target}: the same weights" in found["unique"]
    assert f"checkpoints/{TINY}/manifest.json says" in found["files"]  # the run's manifest has the hash of the old one
    assert f"models/{TINY}/step8" in found["parents"]


def test_weights_copied_over_anothers_by_somebody_who_forges(suite: Path) -> None:
    source, target = (Path(f"checkpoints/{TINY}/global_step{step}") for step in (4, 8))
    for path in source.glob("layer_*"):
        shutil.copyfile(path, target / path.name)
    shutil.copyfile(f"models/{TINY}/step4/model.safetensors", f"models/{TINY}/step8/model.safetensors")
    forge(TINY)
    found = failed()
    assert set(found) == {"unique", "numbers"}
    assert f"{source} and {target}: the same weights" in found["unique"]
    assert f"models/{TINY}/step4 and models/{TINY}/step8: the same weights" in found["unique"]


def test_a_foreign_run_put_in_its_place_by_somebody_who_forges(suite: Path) -> None:
    """Weights of another beginning: further from step 0 than the learning rates allow."""
    generator = torch.Generator().manual_seed(1)
    for step in (2, 4, 8):
        for path in Path(f"checkpoints/{TINY}/global_step{step}").glob("layer_*"):
            layer = torch.load(path, weights_only=True)
            torch.save({name: torch.randn(t.shape, generator=generator) * t.std() for name, t in layer.items()}, path)
    forge(TINY)
    found = failed()
    assert f"checkpoints/{TINY}/global_step2: " in found["bound"] and "learning rates allow" in found["bound"]


def test_a_manifest_edited_with_its_own_hashes_made_right(suite: Path) -> None:
    """Caught by the chain: whoever was made from it names the manifest it was."""
    path = Path(f"checkpoints/{TINY}/global_step4/manifest.json")
    layer = path.parent / "layer_02-model_00-model_states.pt"
    flip(layer)
    edit(path, lambda content: content["files"][layer.name].update(sha256=sha256_file(layer)))
    found = failed()
    for child in (f"checkpoints/{TINY}/global_step8/manifest.json", f"models/{TINY}/step4/manifest.json"):
        assert f"{child}: made from another {path}" in found["parents"]
    assert f"{path}: sha256" in found["files"]


def test_the_facts_of_a_manifest_edited(suite: Path) -> None:
    path = Path(f"checkpoints/{TINY}/global_step4/manifest.json")
    edit(path, lambda content: content["facts"].update(steps_applied=1))
    forge(TINY)
    assert f"{path}: steps_applied is 1" in failed()["steps"]


def test_a_step_written_anew_over_another_by_somebody_who_forges(suite: Path) -> None:
    """Its files have other hashes than the step's they were copied from, and the same numbers."""
    one, other = (Path(f"checkpoints/{TINY}/global_step{step}") for step in (4, 8))
    for layer in one.glob("layer_*.pt"):
        torch.save(torch.load(layer, weights_only=True), path := other / layer.name, pickle_protocol=3)
        assert sha256_file(layer) != sha256_file(path)
    name = "model.safetensors"
    save_file(load_file(f"models/{TINY}/step4/{name}"), f"models/{TINY}/step8/{name}", {"format": "pt", "x": "y"})
    forge(TINY)
    found = failed()
    assert set(found) == {"numbers"} and f"{one} and {other}: equal" in found["numbers"]


@pytest.mark.parametrize("key", ["num_attention_heads", "rotary_pct"])
def test_a_models_configuration_edited_by_somebody_who_forges(suite: Path, key: str) -> None:
    """As in the published 12b-deduped: the tensors fit, and are read wrongly."""
    path = Path(f"models/{TINY}/step4/config.json")
    edit(path, lambda c: c.get("rope_parameters", {}).pop("partial_rotary_factor", None))
    edit(path, lambda content: content.update({key: 1}))
    forge(TINY)
    found = failed()
    assert set(found) == {"converted"} and str(path) in found["converted"]


def of_files(step: int) -> str:
    """What the audit says of the files of one model, numbers aside."""
    folder = look()
    found = folder.model(TINY, step)
    assert found is not None
    return "\n".join(model_files.faults(load(Path("results/study.json")), folder, found))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", change)
        for change in (
            {"hidden_act": "gelu"},
            {"hidden_act": "gelu_new"},  # the same numbers, and not what conversion writes
            {"rope_scaling": {"type": "linear", "factor": 4.0}},
            {"attention_dropout": 0.1},
            {"attention_bias": False},
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
            {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}},
            {"configuration_files": ["config.4.0.0.json"]},
            {"dtype": "float16"},
            {"torch_dtype": "bfloat16"},
            {"architectures": ["GPTNeoXForSequenceClassification"]},
            {"eos_token_id": 5},
            {"is_decoder": True},
            {"some_key_of_tomorrow": 1},
        )
    ]
    + [
        ("generation_config.json", {"do_sample": True}),
        ("generation_config.json", {"eos_token_id": 7}),
        ("castalia.json", {"init_seed": 1}),
        ("castalia.json", {"source": {"repo": "EleutherAI/pythia-70m"}}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.removesuffix(".json"),
)
def test_one_key_of_a_models_files_edited(suite: Path, name: str, change: dict[str, Any]) -> None:
    path = Path(f"models/{TINY}/step4/{name}")
    edit(path, lambda content: content.update(change))
    told = of_files(4)
    assert f"{path}: " in told and next(iter(change)).removeprefix("torch_") in told


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "castalia.json"])
@pytest.mark.parametrize("text", ["[1]", "\ufeff{}", "", '{"a": 1, "a": 2}', "[" * 3000])
def test_a_models_file_that_holds_anything_is_named(suite: Path, name: str, text: str) -> None:
    path = Path(f"models/{TINY}/step4/{name}")
    path.write_text(text)
    assert f"{path}: " in of_files(4)


def test_a_dropout_for_a_model_by_somebody_who_forges(suite: Path) -> None:
    path = Path(f"models/{TINY}/step4/config.json")
    edit(path, lambda content: content.update(hidden_dropout=0.1))
    forge(TINY)
    found = failed()
    assert set(found) == {"converted"}
    assert f"{path}: hidden_dropout is 0.1, conversion writes 0.0" in found["converted"]


def test_files_of_another_version_of_transformers_are_the_same_model(suite: Path) -> None:
    """Before 5: other names of rotary keys and of the type, and fewer keys in generation_config.json."""
    path = Path(f"models/{TINY}/step4/config.json")
    content = read_json(path) | {"transformers_version": "4.46.0"}
    rotary, dtype = content.pop("rope_parameters"), content.pop("dtype")
    del content["is_decoder"]
    before = {"rotary_pct": rotary["partial_rotary_factor"], "rotary_emb_base": rotary["rope_theta"]}
    write_json(path, {**content, **before, "rope_scaling": None, "torch_dtype": dtype})
    edit(path.with_name("generation_config.json"), lambda content: content.pop("output_attentions"))
    assert of_files(4) == ""


MORE = ("pytorch_model.bin", "added_tokens.json", "modeling.py", "adapter_config.json", "chat_template.jinja",
        "model.safetensors.index.json", "additional_chat_templates/x.jinja")  # fmt: skip


def test_files_more_that_a_loader_takes(suite: Path) -> None:
    """Also against the lock; the card of a downloaded revision, and what systems leave, no loader takes."""
    places = (Path(f"models/{TINY}/step4"), Path("data/tokenizer"))
    extra = [place / name for place in places for name in MORE]
    harmless = [places[0] / name for name in ("README.md", "figures/loss.svg", ".cache/huggingface/x", ".DS_Store")]
    for path in [*extra, *harmless]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    found = failed()
    assert set(found) == {"unnamed"}
    assert found["unnamed"].splitlines() == sorted(
        f"{path}: no file of {place}'s manifest" for place in places for path in extra if place in path.parents
    )
    lock = suite.parent / "published.lock.json"
    shutil.copyfile("results/suite.lock.json", lock)
    told = {check.id: check for check in against(lock, suite, 2)}
    assert told["lock_known"].evidence == tuple(sorted(f"{path}: not in the lock" for path in extra))


def test_files_more_that_a_manifest_names(suite: Path) -> None:
    manifest = Path(f"models/{TINY}/step4/manifest.json")
    edit(manifest, lambda content: [content["files"].update({name: {"sha256": "", "bytes": 0}}) for name in MORE])
    edit(manifest, lambda content: content["files"].pop("config.json"))
    told = of_files(4)
    assert all(f"{manifest.parent / name}: conversion writes no such file" in told for name in MORE)
    assert f"{manifest.parent}/config.json: the manifest does not name it" in told


@pytest.mark.parametrize("facts", [{"unchanged": "learning rate 0"}, {"max_logit_difference": 5.0}, {"tolerance": 9.0}])
def test_what_a_model_tells_of_its_conversion_edited(suite: Path, facts: dict[str, Any]) -> None:
    """Publishing excuses equal weights by it."""
    path = Path(f"models/{TINY}/step4/manifest.json")
    edit(path, lambda content: content["facts"].update(facts))
    assert f"{path}: " in of_files(4) and next(iter(facts)) in of_files(4)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("data/tokenizer", "merges.txt"),
        ("exports/pythia-small/step8", "mmproj.gguf"),
        (f"checkpoints/{TINY}/global_step4", "configs/other.yml"),
    ],
)
def test_a_file_more_that_another_manifest_names(suite: Path, place: str, name: str) -> None:
    (extra := Path(place) / name).write_text("{}")
    said = {"sha256": sha256_file(extra), "bytes": 2}
    edit(Path(place) / "manifest.json", lambda content: content["files"].update({name: said}))
    assert f"{extra}: " in "\n".join(failed().values())


def lowercase(content: dict[str, Any]) -> None:
    content["normalizer"] = {"type": "Sequence", "normalizers": [content["normalizer"], {"type": "Lowercase"}]}


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("tokenizer_config.json", lambda content: content.update(add_bos_token=True), "add_bos_token"),
        ("special_tokens_map.json", lambda content: content.update(eos_token="<|padding|>"), "eos_token"),
        ("tokenizer.json", lowercase, "normalizer"),
        ("tokenizer.json", lambda content: content["model"].update(dropout=0.1), "model.dropout"),
        ("tokenizer.json", lambda content: content["added_tokens"][0].update(lstrip=True), "added_tokens"),
        ("tokenizer.json", lambda content: content.update(added_tokens=[7]), "can't be read"),
    ],
)
def test_the_tokenizer_edited_with_every_copy_of_it(
    suite: Path, name: str, change: Callable[[Any], None], told: str
) -> None:
    """No copy differs from the study's, whose hashes are made right: they are not what its settings give."""
    edit(path := Path("data/tokenizer") / name, change)
    assert [line.split(": ")[0] for line in tokenizer_files.own(load(Path("results/study.json")), look())] == [
        str(path)
    ]
    assert told in tokenizer_files.own(load(Path("results/study.json")), look())[0]


def test_an_index_that_leaves_a_tensor_out(suite: Path) -> None:
    """The shards hold every tensor, and a loader would make one anew at random."""
    place = Path(f"models/{TINY}/step4")
    name = "model-00001-of-00001.safetensors"
    (place / "model.safetensors").rename(place / name)
    weights = dict.fromkeys(sorted(load_file(place / name)), name)
    index = place / "model.safetensors.index.json"
    write_json(index, {"weight_map": weights})
    assert str(index) not in of_files(4).replace(f"{index}: the manifest", "")
    write_json(index, {"weight_map": dict(list(weights.items())[1:])})
    assert f"{index}: {min(weights)}: None there" in of_files(4)


def test_another_latest_checkpoint(suite: Path) -> None:
    """By that file DeepSpeed and NeoX choose what they load."""
    path = Path(f"checkpoints/{TINY}/latest")
    path.write_text("global_step4")
    assert failed() == {"names": f"{path}: names 'global_step4', the last checkpoint is global_step8"}


@pytest.mark.parametrize(
    "name",
    [
        f"models/{TINY}/step4/config.json",
        f"checkpoints/{TINY}/global_step4/configs",
        f"results/evals/{TINY}/zero-shot/step4.json",
    ],
)
def test_a_link_in_an_artefacts_folder(suite: Path, name: str) -> None:
    """Even to the same bytes: others may stand there tomorrow."""
    path = Path(name)
    target = path.rename(suite.parent / path.name)
    path.symlink_to(target)
    found = failed()
    assert set(found) - {"unnamed"} == {"links"} and name in found["links"] and "a symbolic link" in found["links"]


def test_numbers_of_a_model_in_fewer_bits_by_somebody_who_forges(suite: Path) -> None:
    """Rounded to another type they are the checkpoint's, but the study asks for 32 bits."""
    path = Path(f"models/{TINY}/step4/model.safetensors")
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    forge(TINY)
    found = failed()
    assert set(found) == {"converted"} and f"{path}: " in found["converted"] and "type F16" in found["converted"]


def test_a_models_tokenizer_replaced_by_somebody_who_forges(suite: Path) -> None:
    path = Path(f"models/{TINY}/step4/tokenizer_config.json")
    edit(path, lambda content: content.update(add_bos_token=True))
    forge(TINY)
    assert f"{path}: not that of data/tokenizer" in failed()["converted"]


def test_the_recipe_in_a_checkpoint_edited_by_somebody_who_forges(suite: Path) -> None:
    path = Path(f"checkpoints/{TINY}/global_step4/configs/{TINY}.yml")
    content = read_yaml(path)
    content["weight-decay"] = 0.3
    path.write_text(yaml.safe_dump(content))
    forge(TINY)
    found = failed()
    assert set(found) == {"settings"} and f"{path}: weight-decay: 0.3 there, 0.1 asked" in found["settings"]


def test_a_score_edited(suite: Path) -> None:
    """Its items don't average to it, whatever hash it names; items edited with it are the lock's and the replay's."""
    path = Path(f"results/evals/{TINY}/zero-shot/step8.json")
    before = read_json(Path("results/suite.lock.json"))["files"][path.as_posix()]
    edit(path, lambda content: content["results"]["castalia_agreement"].update({"acc,none": 0.93}))
    found = failed()
    assert set(found) == {"items", "tables"} and f"{path}: castalia_agreement acc,none is 0.93" in found["items"]
    assert sha256_file(path) != before


@pytest.mark.parametrize(
    ("task", "metric"),
    [("castalia_last_word", "perplexity,none")]
    + [("castalia_perplexity", f"{name},none") for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
)
def test_a_perplexity_edited(suite: Path, task: str, metric: str) -> None:
    path = Path(f"results/evals/{TINY}/zero-shot/step8.json")
    edit(path, lambda content: content["results"][task].update({metric: content["results"][task][metric] * 0.99}))
    found = failed()
    assert set(found) == {"items", "tables"} and f"{path}: {task} {metric} is " in found["items"]


def test_samples_edited_with_their_hash_made_right(suite: Path) -> None:
    path = Path(f"results/evals/{TINY}/zero-shot/step8.json")
    samples = path.with_suffix(".samples.parquet")
    table = pq.read_table(samples)
    values = table["value"].to_pylist()
    first = next(i for i, metric in enumerate(table["metric"].to_pylist()) if metric == "acc,none")
    values[first] = 1.0 - values[first]
    pq.write_table(table.set_column(table.column_names.index("value"), "value", [values]), samples)
    assert f"{samples}: not the samples" in failed()["items"]
    edit(path, lambda content: content.update(samples=sha256_file(samples)))
    assert f"{path}: " in failed()["items"]


def test_scores_of_another_model(suite: Path) -> None:
    one, two = (Path(f"results/evals/{TINY}/zero-shot/step{step}.json") for step in (4, 8))
    shutil.copyfile(one, two)
    found = failed()
    assert f"{two}: holds" in found["names"] and f"{two}: belongs to another model" in found["results"]


def test_memorization_of_another_model_and_of_other_rows(suite: Path) -> None:
    path = Path(f"results/memorization/{TINY}/step8.parquet")
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b"castalia"]) | {"model": "0" * 64}
    moved = table.set_column(0, "sample_index", pc.add(table["sample_index"], 1))
    pq.write_table(moved.replace_schema_metadata({"castalia": canonical(facts)}), path)
    found = failed()
    assert f"{path}: belongs to another model" in found["results"]
    assert f"{path}: other sample_index than" in found["scored_sequences"]


def test_the_study_changed_after_training(suite: Path, tmp_path: Path) -> None:
    content = read_yaml(SMOKE)
    content["training"]["optimizer"]["weight_decay"] = 0.3
    changed = tmp_path / "changed.yaml"
    changed.write_text(yaml.safe_dump(content))
    found = failed(changed)
    assert set(found) == {"settings"}
    assert f"checkpoints/{TINY}/global_step4/manifest.json: training.optimizer.weight_decay: 0.1" in found["settings"]


def test_settings_in_a_manifest_edited(suite: Path) -> None:
    """To what the study says now, fingerprint and hashes made right: no one check can tell that; the lock does."""
    path = Path(f"checkpoints/{TINY}/global_step4/manifest.json")
    edit(path, lambda content: content["settings"]["training"].update(steps=9))
    assert f"{path}: its fingerprint" in failed()["manifests"]
    edit(path, lambda content: content.update(fingerprint=digest_of(content["settings"])))
    assert f"{path}: training.steps: 9" in failed()["settings"]


def test_the_order_replaced(suite: Path) -> None:
    path = Path("data/standard/order-1234/shuffle_idx.npy")
    np.save(path, np.load(path)[::-1])
    found = failed()
    assert str(path) in found["files"]
    assert "data/standard/order-1234" in found["sequences"]


def test_the_order_replaced_by_somebody_who_forges(suite: Path) -> None:
    """The runs' manifests name the order's; with these made right, the rows of metrics.jsonl are others."""
    folder = Path("data/standard/order-1234")
    np.save(folder / "shuffle_idx.npy", np.load(folder / "shuffle_idx.npy")[::-1])
    manifest = folder / "manifest.json"
    edit(manifest, lambda c: c["files"]["shuffle_idx.npy"].update(sha256=sha256_file(folder / "shuffle_idx.npy")))
    found = failed()
    assert "files" not in found
    assert f"checkpoints/{TINY}/manifest.json: made from another {manifest}" in found["parents"]
    for run in (TINY, SMALL):
        forge(run)
    found = failed()
    assert (
        set(found) == {"sequences", "scored_sequences"}
        and f"checkpoints/{TINY}/metrics.jsonl: step 1" in found["sequences"]
    )


def test_a_missing_step(suite: Path) -> None:
    shutil.rmtree(f"checkpoints/{TINY}/global_step4")
    Path(f"results/memorization/{TINY}/step2.parquet").unlink()
    found = failed()
    assert f"checkpoints/{TINY}/global_step4/manifest.json: missing" in found["complete"]
    assert f"results/memorization/{TINY}/step2.parquet: missing" in found["complete"]
    assert f"checkpoints/{TINY}/global_step8/manifest.json: made from" in found["parents"]


def test_an_unknown_step_and_an_unknown_run(suite: Path) -> None:
    shutil.copytree(f"checkpoints/{TINY}/global_step4", f"checkpoints/{TINY}/global_step3")
    shutil.copytree(f"models/{TINY}/step4", "models/pythia-other/step4")
    found = failed()["known"]
    assert f"checkpoints/{TINY}/global_step3: the study's schedule has no such step" in found
    assert "models/pythia-other: the study has no run pythia-other" in found


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("data/standard", "data/other", "data/other/manifest.json: the study asks for no such data"),
        ("data/standard/order-1234", "data/standard/order-9", "data/standard/order-9/manifest.json: the study asks"),
        ("data/documents/verse", "data/documents/prose", "data/documents/prose/part-0/manifest.json: the study asks"),
        (f"checkpoints/{TINY}/resume", "checkpoints/other/resume", "checkpoints/other: the study has no run"),
        (f"models/{TINY}/step4", f"models/{TINY}/final", f"models/{TINY}/final: the study's schedule has no such step"),
        (f"exports/{SMALL}/step8", "exports/other/step8", "exports/other: the study has no run other"),
        (f"exports/{SMALL}/step8", f"exports/{TINY}/step8", f"exports/{TINY}/step8: the study's schedule has no such"),
        (f"results/export/{SMALL}", "results/export/other", "results/export/other: the study has no run other"),
        (f"results/evals/{TINY}", "results/evals/other", "results/evals/other: the study has no run other"),
        (f"results/memorization/{TINY}", "results/memorization/other", "memorization/other: the study has no run"),
    ],
)
def test_what_nobody_asked_for(suite: Path, source: str, target: str, told: str) -> None:
    """Also where no manifest lies beside it."""
    Path(source).mkdir(exist_ok=True)
    shutil.copytree(source, target)
    assert told in failed()["known"]
    for manifest in Path(target).rglob("manifest.json"):
        manifest.unlink()
    known = failed()["known"]
    assert told in known or ("/manifest.json" in told and f"{told.split('/manifest')[0]}/" in known)


def test_raw_texts_notes_and_a_disks_own_folder_are_nothing_unasked(suite: Path) -> None:
    for name in ("texts/1.txt", "texts/tokens.bin", "pile/document-00000-of-00020.bin", "notes.json"):
        path = Path("data") / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    Path("models/README.md").touch()
    Path(f"models/{TINY}/notes.txt").touch()
    Path("checkpoints/lost+found").mkdir()  # of a disk mounted there
    assert audited()["known"].status == "pass"


def test_a_foreign_shard_beside_the_others(suite: Path) -> None:
    extra = Path(f"models/{TINY}/step4/model-00002-of-00002.safetensors")
    shutil.copyfile(f"models/{TINY}/step8/model.safetensors", extra)
    assert str(extra) in failed()["unnamed"]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_to_another_runs_file(suite: Path, link: Callable[[Path, Path], None]) -> None:
    """Of the same content, so that its hash is right."""
    name = "global_step1/layer_02-model_00-model_states.pt"
    ours, theirs = (suite / f"checkpoints/{run}/{name}" for run in (TINY, f"{TINY}-deduped"))
    assert sha256_file(ours) == sha256_file(theirs)
    ours.unlink()
    link(theirs, ours)
    found = failed()
    assert set(found) == {"links"}
    assert f"checkpoints/{TINY}/{name}" in found["links"] and f"checkpoints/{TINY}-deduped/{name}" in found["links"]
    assert ("symbolic link" in found["links"]) == (link is os.symlink)


def test_a_folder_that_is_a_link_to_another_runs(suite: Path) -> None:
    ours, theirs = (suite / f"checkpoints/{run}/global_step8" for run in (TINY, f"{TINY}-deduped"))
    shutil.rmtree(ours)
    ours.symlink_to(theirs)
    assert f"checkpoints/{TINY}/global_step8" in failed()["links"]


def test_an_optimizer_state_that_should_not_be_kept(suite: Path) -> None:
    source, target = (Path(f"checkpoints/{TINY}/global_step{step}") for step in (2, 4))
    name = "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    shutil.copyfile(source / name, target / name)
    assert f"{target}/{name}" in failed()["unnamed"]
    manifest = target / "manifest.json"
    edit(manifest, lambda content: content["files"].update({name: content["files"]["mp_rank_00_model_states.pt"]}))
    edit(manifest, lambda content: content["facts"].update(optimizer_state=True))
    forge(TINY)
    found = failed()
    assert f"{manifest}: optimizer_state is True" in found["retention"]
    assert f"{target}/{name}: Adam took 2 steps" in found["inside"]


def test_damaged_files_are_named_and_end_nothing(suite: Path) -> None:
    Path(f"checkpoints/{TINY}/global_step4/manifest.json").write_text("{")
    Path(f"checkpoints/{SMALL}/global_step4/layer_02-model_00-model_states.pt").write_bytes(b"no tensor")
    Path(f"checkpoints/{TINY}-deduped/metrics.jsonl").write_text('{"step": 1}\n')
    Path(f"models/{TINY}/step2/model.safetensors").write_bytes(b"none")
    Path(f"results/memorization/{TINY}/step4.parquet").write_bytes(b"none")
    found = failed()
    assert "global_step4/manifest.json" in found["files"] and "step4.parquet" in found["files"]
    assert f"checkpoints/{SMALL}/global_step4/layer_02" in found["path"]
    assert f"checkpoints/{TINY}-deduped/metrics.jsonl" in found["steps"]
    assert f"models/{TINY}/step2" in found["converted"]


# --- the commands -----------------------------------------------------------------------------------


def command(package: str, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    full = [forks.python(), "-m", package, name, *arguments]
    return subprocess.run(full, env=environment, capture_output=True, text=True, check=False)


def test_exit_codes_and_a_folder_without_the_workflow(suite: Path, tmp_path: Path) -> None:
    sound = command("scripts.audit", "integrity", "--directory", str(suite))
    assert sound.returncode == 0 and "smoke, integrity: sound" in sound.stdout, sound.stdout + sound.stderr
    flip(suite / f"models/{TINY}/step4/model.safetensors")
    broken = command("scripts.audit", "integrity", "--directory", str(suite), "--sample", "1")
    assert broken.returncode == 1 and f"models/{TINY}/step4/model.safetensors" in broken.stdout
    page = command("scripts.audit", "page", "--directory", str(suite))
    assert page.returncode == 1 and read_json(suite / "results/audit/verdict.json")["verdict"] == "fail"
    assert "is not what it says" in (suite / "results/audit.html").read_text()
    mistake = command("scripts.audit", "integrity", "--directory", str(tmp_path))
    assert mistake.returncode == 2 and "no such file" in mistake.stderr and "Traceback" not in mistake.stderr


def test_an_auditor_who_may_only_read_is_told_and_writes_elsewhere(suite: Path, tmp_path: Path) -> None:
    table = suite / "results/audit/distances.csv"
    table.unlink(missing_ok=True)
    table.mkdir()  # as good as a folder of somebody else's: it can't be written
    told = command("scripts.audit", "integrity", "--directory", str(suite))
    assert told.returncode == 2 and "smoke, integrity: sound" in told.stdout
    assert "write:   --out" in told.stderr and "Traceback" not in told.stderr
    out = tmp_path / "mine"
    for name in ("integrity", "page"):
        done = command("scripts.audit", name, "--directory", str(suite), "--out", str(out))
        assert done.returncode == 0, done.stderr
    assert read_json(out / "results/audit/verdict.json")["verdict"] == "pass"
    for name in ("audit.html", "suite.lock.json", "audit/distances.csv"):
        assert (out / "results" / name).is_file()


def test_a_copy_against_the_lock(suite: Path) -> None:
    lock = suite.parent / "published.lock.json"
    shutil.copyfile("results/suite.lock.json", lock)

    def verified() -> subprocess.CompletedProcess[str]:
        return command("scripts.audit", "integrity", "--directory", str(suite), "--against", str(lock))

    assert verified().returncode == 0
    shutil.rmtree("checkpoints")
    shutil.rmtree("results/evals")
    part = verified()
    assert part.returncode == 0 and f"checkpoints/{TINY}: " in part.stdout and "absent are" in part.stdout
    flip(Path("data/standard/tokens.bin"))
    shutil.copytree(f"models/{TINY}/step4", f"models/{TINY}/step3")
    changed = verified()
    assert changed.returncode == 1 and "data/standard/tokens.bin: sha256" in changed.stdout
    assert f"models/{TINY}/step3/manifest.json: not in the lock" in changed.stdout
    edit(lock, lambda content: content["files"].update({"data/standard/tokens.bin": "0" * 64}))
    assert "lock_root" in verified().stdout.splitlines()[-1]


def test_the_lock_names_every_file_that_makes_up_the_suite(finished: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.folder)
    files = read_json(Path("results/suite.lock.json"))["files"]
    places = (
        "data",
        "checkpoints",
        "models",
        "results/evals",
        "results/memorization",
        "results/tables",
        "results/science",
        "exports",
        "results/export",
    )
    there = {path.as_posix() for place in places for path in Path(place).rglob("*") if path.is_file()}
    left_out = {path for path in there - set(files) if "/resume/" not in path}
    execution = re.compile(r".*(/|\.)record\.json|.*/(timing\.jsonl|latest)")
    cache = re.compile("data/(requests|counts)/.*")
    assert {path for path in left_out if not execution.fullmatch(path) and not cache.fullmatch(path)} == set()
    assert set(files) - there == {"results/study.json"}


def test_a_reader_with_sha256sum_alone(finished: Workflow, tmp_path: Path) -> None:
    """The documentation's section, as it stands: at most twenty lines, run by bash beside the suite."""
    section = DOCUMENTATION.read_text().split("## Check a lock without Castalia")[1].split("\n## ")[0]
    assert len([line for line in section.splitlines() if line.strip()]) <= 20
    script = "\n".join(re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL))
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    shutil.copyfile(folder / "results/suite.lock.json", folder / "suite.lock.json")

    def read() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)

    root = read_json(folder / "suite.lock.json")["root"]
    assert root in read().stdout and "FAILED" not in read().stdout
    shutil.rmtree(folder / "models")
    assert "FAILED" not in read().stdout
    flip(folder / "data/standard/tokens.bin")
    assert "data/standard/tokens.bin: FAILED" in read().stdout
    listed = (folder / "suite.sha256").read_text().splitlines()
    edited = [line for line in listed if not line.endswith("data/standard/tokens.bin")]
    assert (
        hashlib.sha256("\n".join(edited).encode()).hexdigest() not in read().stdout and len(edited) == len(listed) - 1
    )


def test_make_audit_says_what_it_would_run() -> None:
    def shown(*arguments: str) -> str:
        done = subprocess.run(
            ["make", "-n", "audit", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return " ".join(done.stdout.split())

    assert '--directory "." --only-report' in shown() and "--study" not in shown()
    assert f'--directory "out" --study "{ROOT / "s.yaml"}"' in shown("DIRECTORY=out", "STUDY=s.yaml")
    assert '--directory "." --against "a.json"' in shown("AGAINST=a.json")
