"""Parts of a study made a second time: nothing untouched is called altered, and no altered thing passes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts.common import manifest
from scripts.common.files import read_json, sha256_file, write_json
from scripts.study.manifests import CheckpointFacts, RunFacts
from tests import forks
from tests.workflow.conftest import ROOT, Workflow

RUN = "pythia-tiny"
# an attacker's trainer: step 6 reads another token in one sequence, and the log still tells the digest of the order's
# sequences
OTHER_SEQUENCE = """
import sys
from scripts.train import train

honest, steps = train.Batches._micro_batches, []

def forged(self, block):
    steps.append(len(steps) + 1)
    if steps[-1] == 6:
        block[1, 10] = (block[1, 10] + 1) % 512
    return honest(self, block)

train.Batches._micro_batches = forged
train.main()
"""


def part(finished: Workflow, folder: Path, *names: str) -> Workflow:
    """A copy of some folders of the finished study, with its study file."""
    for name in (*names, "results/study.json"):
        source = finished.folder / name
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
    return Workflow(folder)


def segment(workflow: Workflow, begin: int, end: int, run: str = RUN) -> dict[str, Any]:
    """The verdict on a span of training."""
    done = workflow.command_line(
        "scripts.audit", "replay-segment", "--run", run, "--begin", str(begin), "--end", str(end)
    )
    assert done.returncode == 0, done.stderr
    return dict(read_json(workflow.folder / f"results/audit/replay/{run}_{begin}_{end}.json"))


def faults(verdict: dict[str, Any]) -> list[str]:
    return [line for check in verdict["checks"] if check["status"] == "fail" for line in check["evidence"]]


@pytest.fixture
def trained(finished: Workflow, tmp_path: Path) -> Workflow:
    return part(finished, tmp_path / "copy", "data", f"checkpoints/{RUN}")


def test_an_untouched_run_replays_from_its_seed_and_from_its_state(trained: Workflow) -> None:
    assert faults(segment(trained, 0, 2)) == []
    verdict = segment(trained, 2, 8)
    assert verdict["verdict"] == "pass"
    assert verdict["checks"][0]["evidence"] == [
        f"{RUN}: 2 checkpoints of steps 2 to 8, every byte of weights and optimizer state equal"
    ]
    record = read_json(trained.folder / f"results/audit/replay/{RUN}_2_8.record.json")
    assert record["steps"] == 6 and record["processor"]
    assert not any((trained.folder / "results/audit/scratch").iterdir())  # nothing is left of a replay that passed


def test_a_checkpoint_edited_with_every_hash_recomputed_is_named(trained: Workflow) -> None:
    root = trained.folder / f"checkpoints/{RUN}"
    layer = root / "global_step4/layer_02-model_00-model_states.pt"
    state = torch.load(layer, weights_only=True)
    state["mlp.dense_h_to_4h.weight"][0, 0] += 1e-3
    layer.unlink()  # a hard link, maybe
    torch.save(state, layer)
    recompute(trained.folder, root)
    for path in [*root.glob("global_step*/manifest.json")]:
        manifest.verify(path.parent, CheckpointFacts)
    manifest.verify(root, RunFacts)
    found = faults(segment(trained, 2, 8))
    assert any(line.startswith(f"checkpoints/{RUN}/global_step4/{layer.name}: sha256") for line in found)
    assert any("weights differ by" in line and "of the way they went" in line for line in found)


def test_moments_edited_on_what_says_to_be_another_machine_are_named(trained: Workflow) -> None:
    """A record is in no manifest: who edits it is excused for last digits, and for nothing else."""
    state = trained.folder / f"checkpoints/{RUN}/global_step2"
    (path,) = state.glob("*optim_states.pt")
    content = torch.load(path, weights_only=False)  # the test's own study made it
    for held in content["optimizer_state_dict"]["base_optimizer_state"]["state"].values():
        held["exp_avg_sq"] *= 1.01
    path.unlink()  # a hard link, maybe
    torch.save(content, path)
    write_json(state / "record.json", {**read_json(state / "record.json"), "processor": "another"})
    found = faults(segment(trained, 0, 2))
    assert any("optimizer state by 0.0099 of its length" in line for line in found), found


def test_a_stored_state_that_names_foreign_classes_is_never_loaded(trained: Workflow) -> None:
    path = trained.folder / f"checkpoints/{RUN}/global_step2/mp_rank_00_model_states.pt"
    content = torch.load(path, weights_only=False)
    path.unlink()
    torch.save({**content, "harmless": Path("x")}, path)
    (told,) = faults(segment(trained, 2, 8))
    assert f"{path.name}: holds the class pathlib.PosixPath, which is not read here" in told


def recompute(folder: Path, root: Path) -> None:
    """Make the manifests of a run's checkpoints fit their files again, along the whole chain."""
    for step in (4, 8):
        path = root / f"global_step{step}/manifest.json"
        content = read_json(path)
        for name, entry in content["files"].items():
            file = path.parent / name
            entry.update({"sha256": sha256_file(file), "bytes": file.stat().st_size})
        content["parents"] = {parent: sha256_file(folder / parent) for parent in content["parents"]}
        write_json(path, content)
    content = read_json(root / "manifest.json")
    for name, entry in content["files"].items():
        entry.update({"sha256": sha256_file(root / name), "bytes": (root / name).stat().st_size})
    write_json(root / "manifest.json", content)


def test_a_run_trained_with_one_sequence_changed_is_named(finished: Workflow, tmp_path: Path) -> None:
    forged = part(finished, tmp_path / "forged", "data")
    arguments = ["--study", "results/study.json", "--run", RUN]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [forks.python(), "-c", OTHER_SEQUENCE, *arguments]
    subprocess.run(command, cwd=forged.folder, env=environment, check=True, capture_output=True)
    ours, theirs = (
        [json.loads(line) for line in (folder / f"checkpoints/{RUN}/metrics.jsonl").read_text().splitlines()]
        for folder in (finished.folder, forged.folder)
    )
    assert [line["sequences"] for line in ours] == [line["sequences"] for line in theirs]  # nothing shows in the log
    found = faults(segment(forged, 2, 8))
    assert any(line.startswith(f"checkpoints/{RUN}/global_step8/manifest.json") for line in found)
    assert any(line.startswith(f"checkpoints/{RUN}/global_step8: weights differ") for line in found)
    assert not any("global_step4" in line for line in found)  # it names the span in which it happened


def test_a_flipped_bit_in_the_stored_state_is_named(trained: Workflow) -> None:
    name = "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    path = trained.folder / f"checkpoints/{RUN}/global_step2/{name}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    (line,) = faults(segment(trained, 2, 8))
    assert line.startswith(f"checkpoints/{RUN}/global_step2/{name}: sha256")


def test_an_edited_log_is_named(trained: Workflow) -> None:
    path = trained.folder / f"checkpoints/{RUN}/metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[5]["sequences"] = "0" * 16
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert faults(segment(trained, 2, 8))[0].startswith(f"checkpoints/{RUN}/metrics.jsonl: sequences of step 6")


@pytest.mark.slow
def test_two_processes_replay_with_two(finished: Workflow, tmp_path: Path) -> None:
    """Also when the study now asks for one: the stored state says how many it was cut up for."""
    pair = part(finished, tmp_path / "pair", "data")
    study = pair.folder / "results/study.json"
    content = read_json(study)
    content["runtime"]["processes"] = 2
    write_json(study, content)
    done = pair.command_line("scripts.train", "launch", "--run", RUN)
    assert done.returncode == 0, done.stderr
    content["runtime"]["processes"] = 1
    write_json(study, content)
    assert segment(pair, 2, 8)["verdict"] == "pass"
    assert segment(pair, 0, 2)["verdict"] == "pass"


def test_models_and_scores_replay_and_an_edited_score_is_named(finished: Workflow, tmp_path: Path) -> None:
    names = [f"models/{RUN}/step4", f"results/evals/{RUN}", f"results/memorization/{RUN}"]
    scored = part(finished, tmp_path / "copy", "data", f"checkpoints/{RUN}", *names)
    path = scored.folder / f"results/evals/{RUN}/zero-shot/step4.json"
    content = read_json(path)
    content["results"]["castalia_agreement"]["acc,none"] += 0.1
    write_json(path, content)
    done = scored.command_line("scripts.audit", "replay-model", "--run", RUN, "--step", "4")
    assert done.returncode == 0, done.stderr
    verdict = read_json(scored.folder / f"results/audit/replay/{RUN}_4.json")
    assert [check["status"] for check in verdict["checks"]] == ["pass", "fail", "pass"]
    (line,) = faults(verdict)
    assert line.startswith(f"results/evals/{RUN}/zero-shot/step4.json: sha256")


def sequences(workflow: Workflow) -> dict[str, Any]:
    done = workflow.command_line("scripts.audit", "replay-data")
    assert done.returncode == 0, done.stderr
    return dict(read_json(workflow.folder / "results/audit/replay/data.json"))


def test_sequences_are_rebuilt_from_raw_text_and_altered_ones_named(finished: Workflow, tmp_path: Path) -> None:
    all_runs = part(finished, tmp_path / "copy", "data", "checkpoints")
    verdict = sequences(all_runs)
    assert [check["status"] for check in verdict["checks"]] == ["pass"] * 3
    corpora = [all_runs.folder / "data" / name for name in ("standard", "deduped")]
    for corpus in corpora:
        path = corpus / "tokens.bin"
        tokens = np.fromfile(path, dtype="<u2")
        path.unlink()
        (tokens ^ 1).tofile(path)
    found = faults(sequences(all_runs))
    assert any(line.startswith("data/standard/tokens.bin: document") for line in found)
    assert any("rebuilt from text and seed" in line for line in found)


def test_a_replaced_order_is_named(finished: Workflow, tmp_path: Path) -> None:
    all_runs = part(finished, tmp_path / "copy", "data", "checkpoints")
    for path in all_runs.folder.glob("data/*/order-*/shuffle_idx.npy"):
        order = np.load(path)
        path.unlink()
        np.save(path, order[::-1].copy())
    found = faults(sequences(all_runs))
    assert any("order-1234: the sequence at sample index" in line for line in found)


def test_the_command_draws_tells_the_cost_and_ends_with_1_for_a_fault(
    finished: Workflow, copied: Callable[..., Workflow]
) -> None:
    cost = finished.command_line("scripts.audit", "replay", "--cost", "--seed", "3", "--segments", "2")
    assert cost.returncode == 0 and cost.stdout.count("steps") == 2 and "tokens" in cost.stdout
    workflow = copied()
    assert workflow.command_line("scripts.audit", "replay").returncode == 0
    verdict = read_json(workflow.folder / "results/audit/replay.json")
    assert verdict["verdict"] == "pass" and verdict["checks"][0]["id"] == "replay-sample"
    (drawn,) = verdict["checks"][0]["evidence"]
    run, _, end = drawn.rsplit("_", 2)
    path = workflow.folder / f"checkpoints/{run}/global_step{end}/mp_rank_00_model_states.pt"
    path.unlink()
    done = workflow.command_line("scripts.audit", "replay")
    assert done.returncode == 1
    found = faults(read_json(workflow.folder / "results/audit/replay.json"))
    assert any(path.name in line for line in found)


def test_a_begin_without_stored_state_is_refused(trained: Workflow) -> None:
    arguments = ["--run", RUN, "--begin", "4", "--end", "8"]
    done = trained.command_line("scripts.audit", "replay-segment", *arguments)
    assert done.returncode == 2 and "--begin: 4" in done.stderr and "[0, 2]" in done.stderr


def test_a_replay_that_differed_is_kept_and_the_next_one_trains_anew(trained: Workflow) -> None:
    """Else a verdict would stay that of the machine or the code that made the folder first."""
    root = trained.folder / f"checkpoints/{RUN}"
    layer = root / "global_step1/layer_02-model_00-model_states.pt"
    honest = layer.read_bytes()
    layer.unlink()  # a hard link, maybe
    layer.write_bytes(honest[:-200] + bytes([honest[-200] ^ 1]) + honest[-199:])
    assert segment(trained, 0, 2)["verdict"] == "fail"
    work = trained.folder / f"results/audit/scratch/{RUN}_0_2"
    kept = work / f"checkpoints/{RUN}/global_step1/manifest.json"
    assert kept.exists()
    layer.write_bytes(honest)
    kept.write_text("{}")  # what another machine would have made otherwise
    assert segment(trained, 0, 2)["verdict"] == "pass" and not work.exists()


def test_a_damaged_checkpoint_fails_the_replay_of_its_model_and_no_job(finished: Workflow, tmp_path: Path) -> None:
    workflow = part(finished, tmp_path / "copy", "data", f"checkpoints/{RUN}", f"models/{RUN}")
    layer = workflow.folder / f"checkpoints/{RUN}/global_step8/layer_02-model_00-model_states.pt"
    layer.unlink()  # a hard link, maybe
    layer.write_bytes(b"no tensor")
    done = workflow.command_line("scripts.audit", "replay-model", "--run", RUN, "--step", "8")
    assert done.returncode == 0, done.stderr
    verdict = read_json(workflow.folder / f"results/audit/replay/{RUN}_8.json")
    told = f"checkpoints/{RUN}/global_step8: refused by scripts.convert convert, as its log says"
    assert faults(verdict) == [told]
