"""What is recorded of a run: right by other ways to the same numbers, nothing to the run, equal live and replayed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPTNeoXForCausalLM

from scripts import api
from scripts.common.errors import UserError
from scripts.common.files import read_json, read_yaml, sha256_file, write_json
from scripts.neox.optimizer import read_optimizer
from scripts.neox.weights import to_transformers
from scripts.study.study import load
from tests import forks
from tests.workflow.conftest import ROOT, SMOKE, Workflow
from tests.workflow.test_training import wait_for

RUN, LAYERS, STEPS, BATCH, LENGTH = "pythia-small", 2, 8, 4, 64
ASKED: dict[str, dict[str, Any]] = {
    "losses": {"every": 1, "what": ["loss_per_sequence"]},
    "tensors": {"steps": [0, 1, 2, 5], "what": ["gradient", "adam_moments", "update"]},
    "outputs": {"steps": [1, 4], "what": ["activation", "loss_per_sequence"], "layers": ["*.mlp", "2", "3", "5"]},
    "norms": {"every": 1, "what": ["gradient", "activation", "update", "adam_moments"], "reduce": "norm"},
    "statistics": {"every": 2, "what": ["gradient", "activation"], "reduce": "statistics"},
    "held-out": {"steps": [0, 8], "what": ["activation", "loss_per_sequence"], "held_out_sequences": 3},
}
KINDS: dict[str, dict[str, Any]] = {
    "two processes": {"processes": 2, "micro_batch": 1},
    "micro-batches and recomputed activations": {"micro_batch": 2, "activation_checkpointing": True},
    "no ZeRO": {"zero_stage": 0},
    "ZeRO 2": {"zero_stage": 2, "processes": 2},
    "ZeRO 3": {"zero_stage": 3, "processes": 2},
    "bf16": {"precision": "bf16"},
}


def study_file(folder: Path, asked: dict[str, Any], precision: str = "fp32", **runtime: Any) -> Path:
    """The smoke study with recordings of one of its runs."""
    content = read_yaml(SMOKE)
    content["training"]["precision"] = precision
    content["checkpoints"]["optimizer_states"]["extra"] = [1, 2]
    content["recordings"] = {name: {"runs": [RUN], **each} for name, each in asked.items()}
    content["runtime"] |= runtime
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def trained(finished: Workflow, folder: Path, asked: dict[str, Any] = ASKED, **setting: Any) -> Workflow:
    """The run, trained in a folder with the smoke study's data."""
    folder.mkdir(parents=True)
    shutil.copytree(finished.folder / "data", folder / "data")
    workflow = Workflow(folder, study_file(folder, asked, **setting))
    (folder / "results").mkdir()
    write_json(folder / "results/study.json", load(workflow.study_file).file.model_dump())
    done = workflow.command_line("scripts.train", "launch", "--run", RUN)
    assert done.returncode == 0, done.stderr
    return workflow


def gather(workflow: Workflow, *names: str) -> Workflow:
    for name in names or ASKED:
        done = workflow.command_line("scripts.replay", "record", "--run", RUN, "--recording", name)
        assert done.returncode == 0, done.stderr
    return workflow


@pytest.fixture(scope="module")
def recorded(finished: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """Recorded while it trained; not to be changed."""
    return gather(trained(finished, tmp_path_factory.mktemp("recordings") / "live"))


def sums(folder: Path, pattern: str = "*") -> dict[str, str]:
    """sha256 of the files below a folder that are the same each time."""
    files = (path for path in folder.rglob(pattern) if path.is_file() and path.name != "record.json")
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def tensors(workflow: Workflow, step: int, name: str = "tensors", kind: str = "") -> dict[str, Tensor]:
    """Those of a kind, without it in their names."""
    found = load_file(workflow.folder / f"recordings/{name}/{RUN}/step{step}.safetensors")
    before = f"{kind}/" if kind else ""
    return {key.removeprefix(before): tensor for key, tensor in found.items() if key.startswith(before)}


def table(workflow: Workflow, name: str, kind: str = "losses") -> pd.DataFrame:
    return pd.read_parquet(workflow.folder / f"recordings/{name}/{RUN}/{kind}.parquet")


def layered(found: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Tensors by layer and name."""
    layers: dict[int, dict[str, Tensor]] = {}
    for key, tensor in found.items():
        layer, _, name = key.partition(".")
        layers.setdefault(int(layer), {})[name] = tensor
    return layers


def batch(finished: Workflow, step: int) -> Tensor:
    return torch.from_numpy(api.study(finished.folder).sequences(RUN, step).tokens)


def reference(finished: Workflow, step: int) -> GPTNeoXForCausalLM:
    return api.study(finished.folder).model(RUN, step)


def test_recording_changes_no_byte_of_the_run(finished: Workflow, recorded: Workflow) -> None:
    for step in (0, 1, 2, 4, 8):
        place = f"checkpoints/{RUN}/global_step{step}"
        plain, now = (sums(workflow.folder / place, "*.pt") for workflow in (finished, recorded))
        assert plain and {name: now[name] for name in plain} == plain
    for log in ("metrics.jsonl", "held_out.jsonl"):
        assert (recorded.folder / f"checkpoints/{RUN}/{log}").read_bytes() == (
            finished.folder / f"checkpoints/{RUN}/{log}"
        ).read_bytes()


@pytest.mark.parametrize("step", [1, 2])
def test_a_gradient_is_autograds_of_a_plain_transformers_model(
    finished: Workflow, recorded: Workflow, step: int
) -> None:
    model, tokens = reference(finished, step), batch(finished, step)
    logits = model(tokens[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    found = to_transformers(layered(tensors(recorded, step, kind="gradient")), LAYERS)
    parameters = dict(model.named_parameters())
    assert set(parameters) <= set(found)
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        assert (found[name] - parameter.grad).abs().max() < 1e-6, name


def test_losses_are_those_of_the_sequences_and_average_to_the_logged_one(
    finished: Workflow, recorded: Workflow
) -> None:
    losses = table(recorded, "losses")
    assert list(losses.step.unique()) == list(range(STEPS)) and list(losses.sample_index) == list(range(STEPS * BATCH))
    logged = [line["loss"] for line in map(yaml.safe_load, lines(recorded, "metrics.jsonl"))]
    assert np.allclose(losses.groupby("step").loss.mean(), logged, atol=1e-6)
    model, tokens = reference(finished, 4), batch(finished, 4)
    with torch.no_grad():
        each = torch.nn.functional.cross_entropy(
            model(tokens[:, :-1]).logits.transpose(1, 2), tokens[:, 1:], reduction="none"
        ).mean(1)
    assert np.allclose(losses[losses.step == 4].loss, each.numpy(), atol=1e-5)


def lines(workflow: Workflow, log: str) -> list[str]:
    return (workflow.folder / f"checkpoints/{RUN}/{log}").read_text().splitlines()


def test_activations_are_those_of_a_plain_transformers_model(finished: Workflow, recorded: Workflow) -> None:
    model, tokens = reference(finished, 4), batch(finished, 4)
    mlps: dict[str, Tensor] = {}
    for layer, block in enumerate(model.gpt_neox.layers):
        block.mlp.register_forward_hook(lambda _, __, out, name=f"{layer + 2}.mlp": mlps.update({name: out}))
    with torch.no_grad():
        hidden = model(tokens[:, :-1], output_hidden_states=True).hidden_states
    found = tensors(recorded, 4, "outputs", "activation")
    assert set(found) == {"2", "3", "2.mlp", "3.mlp", "5"}
    for name, wanted in {**mlps, "2": hidden[1], "5": hidden[-1]}.items():
        assert found[name].shape == (BATCH, LENGTH, 32)
        assert (found[name] - wanted).abs().max() < 1e-5, name


def test_an_update_is_the_way_from_one_checkpoint_to_the_next(recorded: Workflow) -> None:
    states = [read_optimizer(recorded.folder / f"checkpoints/{RUN}/global_step{step}", LAYERS) for step in (1, 2)]
    for name, went in tensors(recorded, 1, kind="update").items():
        layer, _, rest = name.partition(".")
        before, after = (state.parameters[int(layer), rest].master for state in states)
        assert torch.equal(went, after - before), name


@pytest.mark.parametrize("step", [0, 1, 2])
def test_moments_are_those_of_the_stored_state(recorded: Workflow, step: int) -> None:
    found = tensors(recorded, step)
    assert int(found["adam_steps"]) == step
    stored = read_optimizer(recorded.folder / f"checkpoints/{RUN}/global_step{step}", LAYERS) if step else None
    for key in ("exp_avg", "exp_avg_sq"):
        for name, tensor in tensors(recorded, step, kind=key).items():
            layer, _, rest = name.partition(".")
            wanted = getattr(stored.parameters[int(layer), rest], key) if stored else torch.zeros_like(tensor)
            assert torch.equal(tensor, wanted), name


def test_norms_and_statistics_are_those_of_the_tensors(recorded: Workflow) -> None:
    norms = table(recorded, "norms", "statistics").set_index(["step", "kind", "name"]).norm
    assert len(norms) == (4 * 28 + 22) * STEPS  # parameters and modules
    for step in (1, 5):
        for key, tensor in tensors(recorded, step).items():
            if key != "adam_steps":
                assert norms[(step, *key.split("/"))] == pytest.approx(tensor.double().norm().item(), rel=1e-12)
    of = table(recorded, "statistics", "statistics").set_index(["step", "kind", "name"])
    for key, tensor in tensors(recorded, 2, kind="gradient").items():
        row, numbers = of.loc[(2, "gradient", key)], tensor.double()
        apart = numbers - numbers.mean()
        assert row["mean"] == pytest.approx(numbers.mean().item(), rel=1e-9, abs=1e-18)
        assert row["std"] == pytest.approx(numbers.std(correction=0).item(), rel=1e-9)
        assert (row["min"], row["max"]) == (numbers.min().item(), numbers.max().item())
        assert row["zero_fraction"] == (numbers == 0).double().mean().item()
        assert row["kurtosis"] == pytest.approx((apart**4).mean().item() / (apart**2).mean().item() ** 2, rel=1e-6)


def test_the_held_out_batch_is_the_same_at_every_step(finished: Workflow, recorded: Workflow) -> None:
    losses = table(recorded, "held-out")
    assert list(losses.step) == [0, 0, 0, 8, 8, 8]
    which = losses.held_out_sequence
    assert list(which[:3]) == list(which[3:]) and which[0] == 0
    found = tensors(recorded, 8, "held-out", "activation")
    assert found["2"].shape == (3, LENGTH, 32)
    whole = yaml.safe_load(lines(recorded, "held_out.jsonl")[-1])["loss"]
    assert abs(losses[losses.step == 8].loss.mean() - whole) < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_of_training_records_the_same_to_last_digits(
    kind: str, finished: Workflow, recorded: Workflow, tmp_path: Path
) -> None:
    other = gather(trained(finished, tmp_path / "other", **KINDS[kind]))
    near = 0.05 if kind == "bf16" else 1e-4
    for name, step in (("tensors", 1), ("tensors", 2), ("outputs", 1), ("held-out", 8)):
        wanted = tensors(recorded, step, name)
        found = tensors(other, step, name)
        assert set(found) == set(wanted)
        for key, tensor in wanted.items():
            apart = (found[key].double() - tensor.double()).norm()
            # of gradients near zero, as a key's bias has them, Adam takes little but the sign
            most = (1 if kind == "bf16" else 0.02) if key.startswith("update") else near
            assert apart <= most * max(tensor.double().norm(), 1e-3), (key, float(apart))
    for name, kind_of in (("losses", "losses"), ("norms", "statistics"), ("statistics", "statistics")):
        one, two = table(recorded, name, kind_of), table(other, name, kind_of)
        assert list(one.step) == list(two.step)
        column = "loss" if name == "losses" else "norm"
        told = one.kind != "update" if name == "norms" else one.step >= 0
        assert np.allclose(one[column][told], two[column][told], rtol=near, atol=1e-3), name
    logged = [line["loss"] for line in map(yaml.safe_load, lines(other, "metrics.jsonl"))]
    assert np.allclose(table(other, "losses").groupby("step").loss.mean(), logged, atol=1e-6)


@pytest.mark.parametrize("setting", [{}, {"processes": 2}, {"precision": "bf16"}], ids=["fp32", "two", "bf16"])
def test_live_and_replayed_recordings_are_the_same_bytes(
    setting: dict[str, Any], finished: Workflow, tmp_path: Path
) -> None:
    live = trained(finished, tmp_path / "live", **setting)
    shutil.copytree(live.folder, tmp_path / "later", symlinks=True)
    later = Workflow(tmp_path / "later", tmp_path / "later/study.yaml")
    shutil.rmtree(later.folder / "recordings")
    (draft,) = (live.folder / f"recordings/losses/{RUN}").glob(".draft-*")
    half = draft / "steps.jsonl"
    half.write_text("".join(half.read_text().splitlines(keepends=True)[1:4]))  # of two sources
    assert sums(gather(live).folder / "recordings") == sums(gather(later).folder / "recordings")
    assert not list(later.folder.glob("replayed/scratch/*/*"))


def test_a_killed_run_resumes_and_records_the_same(finished: Workflow, recorded: Workflow, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    shutil.copytree(finished.folder / "data", folder / "data")
    workflow = Workflow(folder, study_file(folder, ASKED))
    (folder / "results").mkdir()
    write_json(folder / "results/study.json", load(workflow.study_file).file.model_dump())
    command = [forks.python(), "-m", "scripts.train", "launch", "--study", "results/study.json", "--run", RUN]
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    log = folder / f"checkpoints/{RUN}/metrics.jsonl"
    wait_for(process, lambda: log.exists() and log.read_text().count("\n") >= 6)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / f"checkpoints/{RUN}/manifest.json").exists()
    (half,) = folder.glob(f"recordings/losses/{RUN}/.draft-*/steps.jsonl")
    with half.open("a") as handle:
        handle.write('{"step": 6, "los')  # as a power cut leaves it
    done = workflow.command_line("scripts.train", "launch", "--run", RUN)
    assert done.returncode == 0, done.stderr
    steps = [line.split(",")[0] for line in half.read_text().splitlines()]
    assert steps == [f'{{"step": {step}' for step in range(STEPS)]
    for name in ASKED:
        gather(workflow, name)
    assert sums(folder / "recordings") == sums(recorded.folder / "recordings")


def test_other_steps_of_a_finished_recording_take_over_what_is_there(
    finished: Workflow, recorded: Workflow, tmp_path: Path
) -> None:
    shutil.copytree(recorded.folder, tmp_path / "grown", symlinks=True)
    grown = Workflow(tmp_path / "grown", tmp_path / "grown/study.yaml")
    asked = {
        **ASKED,
        "tensors": {**ASKED["tensors"], "steps": [1, 3]},
        "losses": {"steps": [2, 5], "what": ["loss_per_sequence"]},
    }
    study_file(grown.folder, asked)
    write_json(grown.folder / "results/study.json", load(grown.study_file).file.model_dump())
    cost = grown.command_line("scripts.replay", "record", "--run", RUN, "--recording", "tensors", "--cost")
    assert "replay pythia-small from step 2 to 4: 2 steps" in cost.stdout and cost.stdout.count("replay") == 1
    for name in ("tensors", "losses"):
        done = grown.command_line("scripts.replay", "record", "--run", RUN, "--recording", name)
        assert done.returncode == 0, done.stderr
        assert ("replay pythia-small from step 2 to 4" in done.stderr) == (name == "tensors")
    home = grown.folder / f"recordings/tensors/{RUN}"
    assert {path.name for path in home.glob("step*")} == {"step1.safetensors", "step3.safetensors"}
    assert sha256_file(home / "step1.safetensors") == sha256_file(
        recorded.folder / f"recordings/tensors/{RUN}/step1.safetensors"
    )
    old = table(recorded, "losses")
    pd.testing.assert_frame_equal(table(grown, "losses"), old[old.step.isin([2, 5])].reset_index(drop=True))


def test_the_api_reads_tensors_and_tables(recorded: Workflow) -> None:
    suite = api.study(recorded.folder)
    assert suite.recording("tensors", RUN, 5)["gradient/2.mlp.dense_h_to_4h.bias"].shape == (128,)
    assert len(suite.recording("losses", RUN)) == STEPS * BATCH
    assert set(suite.recording("statistics", RUN).kind) == {"gradient", "activation"}
    for asked, told in (
        (("tensor", RUN), "write:   tensors"), (("tensors", RUN, 3), r"\[0, 1, 2, 5\]"),
        (("norms", RUN, 3), "full"), (("tensors", RUN), "tensors alone"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=told):
            suite.recording(*asked)


def test_a_replay_that_does_not_come_out_records_nothing(finished: Workflow, tmp_path: Path) -> None:
    asked = {"tensors": ASKED["tensors"]}
    workflow = trained(finished, tmp_path / "wrong", asked)
    shutil.rmtree(workflow.folder / "recordings")
    (path,) = (workflow.folder / f"checkpoints/{RUN}/global_step8").glob("layer_02-*")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    done = workflow.command_line("scripts.replay", "record", "--run", RUN, "--recording", "tensors")
    assert done.returncode == 2 and "sha256" in done.stderr and "Traceback" not in done.stderr
    assert not (workflow.folder / f"recordings/tensors/{RUN}/manifest.json").exists()


def test_the_workflow_makes_recordings_and_knows_them(recorded: Workflow, tmp_path: Path) -> None:
    shutil.copytree(recorded.folder, tmp_path / "flow", symlinks=True)
    flow = Workflow(tmp_path / "flow", tmp_path / "flow/study.yaml")
    manifest = f"recordings/losses/{RUN}/manifest.json"
    before = sha256_file(flow.folder / manifest)
    (flow.folder / manifest).unlink()
    flow.succeed(manifest)
    assert sha256_file(flow.folder / manifest) == before
    told = read_json(flow.folder / manifest)
    assert told["subject"] == {"recording": "losses", "run": RUN} and told["facts"]["steps"] == STEPS
    assert list(told["parents"]) == [f"checkpoints/{RUN}/manifest.json"]
    assert flow.planned("recordings") == {}
    (flow.folder / f"recordings/norms/{RUN}/manifest.json").unlink()
    assert flow.planned("recordings") == {"record": 1, "recordings": 1}
    told = flow.command_line("scripts.audit", "integrity")
    assert "recordings/" not in told.stdout + told.stderr, told.stdout + told.stderr
