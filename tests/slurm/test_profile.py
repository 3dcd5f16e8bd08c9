"""`snakemake --profile slurm`: the smoke study, one target, a run over two nodes, GPUs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.common.files import read_json
from tests.slurm.cluster import CPU_NODES, GPU_NODES, GPUS, Cluster
from tests.slurm.conftest import LIMIT, Submitted, Twice
from tests.slurm.daemons import command, wait_for
from tests.workflow.hashes import hashes


def test_one_target_makes_only_what_it_needs_and_once(twice: Twice) -> None:
    (_, first), (_, second) = twice.calls[1:3]
    assert first == [
        "rule_convert_0_8_wildcards_pythia-tiny",
        "rule_evaluate_0_8_wildcards_pythia-tiny_zero-shot",
        "rule_tasks",
        "rule_train_run_wildcards_pythia-tiny",
    ]
    assert second == []
    # another study's waiting job would write its log here
    assert list((twice.by_slurm.folder / ".snakemake/slurm_logs/rule_train_run/pythia-tiny").iterdir()) == []


def test_a_step_that_was_not_saved_is_trained_again_on_a_node(
    cluster: Cluster, submitted: Callable[..., Submitted]
) -> None:
    study, before = submitted(), set(cluster.jobs())
    study.succeed("models/pythia-tiny/step3/manifest.json")
    made = ["convert_3_3_replayed0", "replay_steps_0"]
    assert cluster.submitted_since(before) == [f"rule_{name}_wildcards_pythia-tiny" for name in made]
    assert read_json(study.folder / "models/pythia-tiny/step3/manifest.json")["subject"]["step"] == 3


def two_nodes(content: dict[str, Any]) -> None:
    content["runtime"] |= {"processes": 4, "processes_per_node": 2}
    content["training"]["steps"] = 200  # long enough to be met in the midst
    content["data"]["max_epochs"] = 30


def test_a_run_over_two_nodes_is_cancelled_goes_on_and_equals_torchrun_on_one(
    cluster: Cluster, submitted: Callable[..., Submitted], tmp_path: Path
) -> None:
    study, run = submitted("checkpoints", change=two_nodes), "pythia-tiny"
    before = set(cluster.jobs())
    snakemake = study.started(f"checkpoints/{run}/manifest.json")
    wait_for(lambda: 10 <= study.steps_done(run) < 200, LIMIT, "training")
    (first,) = cluster.running(run)
    assert re.search(rf" NodeList={CPU_NODES[0][0]}\[\d[-,]\d\]", command("scontrol", "show", "job", first))
    command("scancel", first)
    wait_for(lambda: "asked to end; saved at step" in study.log(run), LIMIT, "word of saving")
    assert snakemake.wait(LIMIT) == 0, study.said()
    assert sorted(cluster.ends(set(cluster.jobs()) - before)) == ["CANCELLED", "COMPLETED"]
    over_two = hashes(study.folder)

    shutil.rmtree(study.folder / "checkpoints")
    one_node = tmp_path / "one-node.yaml"
    one_node.write_text(study.study_file.read_text().replace("processes_per_node: 2", "processes_per_node: 4"))
    trained = study.command_line("scripts.train", "launch", "--run", run, study_file=one_node)
    assert trained.returncode == 0, trained.stderr
    assert len(over_two) > 20 and hashes(study.folder) == over_two


def on_gpus(content: dict[str, Any]) -> None:
    content["runtime"] |= {"device": "cuda", "processes": 4, "processes_per_node": 2}


def test_gpus_are_asked_for_by_node_and_their_lack_is_told(
    cluster: Cluster, submitted: Callable[..., Submitted]
) -> None:
    """The GPUs are copies of /dev/null, so training must refuse them, after Slurm has given them."""
    study = submitted("checkpoints", change=on_gpus)
    before = set(cluster.jobs())
    done = study.run("--retries", "0", "checkpoints/pythia-tiny/manifest.json")
    assert done.returncode != 0 and "this machine shows no CUDA device" in done.stdout + done.stderr
    (number,) = set(cluster.jobs()) - before
    job = command("scontrol", "show", "job", number)
    assert f"NodeList={GPU_NODES[0][0]}[1-2]" in job and f"gpu:{2 * GPUS}" in job and "NumTasks=4" in job


def test_the_smoke_study_has_the_same_bytes_as_on_a_laptop(twice: Twice) -> None:
    for said, jobs in twice.calls:
        assert said.count("has been submitted with SLURM jobid") == len(jobs) == len(set(jobs))
        assert "array" not in said
    assert hashes(twice.by_slurm.folder) == hashes(twice.local.folder)
    assert twice.by_slurm.planned() == {}
