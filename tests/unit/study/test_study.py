"""The study file: run table, names, schedule, overrides, refusals, generated files."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.study import schema
from scripts.study.catalogue import CATALOGUE, padded_vocabulary
from scripts.study.runs import run_name
from scripts.study.schedule import in_batches, scheduled_steps
from scripts.study.stages import alone, steps_asked
from scripts.study.study import load, parse

STUDIES = [*sorted(ROOT.glob("studies/*.yaml")), ROOT / "config.yaml"]


@pytest.fixture
def content() -> Any:
    return read_yaml(ROOT / "config.yaml")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_are_valid(path: Path) -> None:
    study = load(path)
    assert study.runs
    for name in study.runs:
        steps = study.steps(name)
        first = study.run(name).first_step
        assert (steps[0] > first if first else steps[0] == 0) and steps == sorted(set(steps))
        assert set(study.optimizer_steps(name)) <= set(steps)


def test_default_study_is_what_the_readme_says() -> None:
    study = load(ROOT / "config.yaml")
    assert len(study.runs) == 9
    sizes = {run.size for run in study.runs.values()}
    counts = sorted(size.non_embedding_parameters for size in sizes)
    assert len(counts) == 3 and counts[-1] >= 12 * counts[0]
    assert all(len(study.steps(name)) >= 10 for name in study.runs)


def test_pythia_schedule_has_the_published_154_and_20_steps() -> None:
    study = load(ROOT / "studies/pythia.yaml")
    steps = study.steps("pythia-70m")
    assert len(steps) == 154
    assert steps[:12] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000] and steps[-1] == 143000
    # EleutherAI's cards of the raw checkpoints list these 20
    late = [1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000, 143000]
    assert study.optimizer_steps("pythia-70m") == steps[:11] + late


def test_polypythias_runs_are_the_published_ones() -> None:
    runs = load(ROOT / "studies/polypythias.yaml").runs
    assert len(runs) == 56
    assert (runs["pythia-160m-data-seed1"].init_seed, runs["pythia-160m-data-seed1"].data_seed) == (1234, 1)
    assert (runs["pythia-160m-weight-seed2"].init_seed, runs["pythia-160m-weight-seed2"].data_seed) == (2, 1234)
    assert (runs["pythia-70m-seed3"].init_seed, runs["pythia-70m-seed3"].data_seed) == (3, 3)


def test_v0_runs_are_the_first_suite_under_its_old_names() -> None:
    """README of EleutherAI/pythia at 00b909b; its issue 39; files in docs/fidelity.md."""
    study = load(ROOT / "studies/pythia-v0.yaml")
    names = ["19m", "125m", "350m", "800m", "1.3b", "2.7b", "6.7b", "13b"]
    assert sorted(study.runs) == sorted(f"pythia-{name}{text}" for name in names for text in ("", "-deduped"))
    assert study.runs["pythia-125m"].size.name == "160m"
    for name, run in study.runs.items():
        large_batch = run.size.name in ("160m", "410m", "1.4b")
        assert run.training.batch_size * 2048 == (4_194_304 if large_batch else 2_097_152)
        assert run.sequences == 143_000 * 1024
        apart = 500 if large_batch else 1000
        assert study.steps(name) == list(range(0, run.training.steps + 1, apart)) and len(study.steps(name)) == 144
        assert run.training.learning_rate.floor_fraction == (0.0 if run.size.name in ("6.9b", "12b") else 0.1)
        assert run.training.precision == "fp16"


def test_batch_size_runs_read_the_sequences_of_the_suite() -> None:
    """Names and steps of evals/pythia-v1 in EleutherAI/pythia."""
    study = load(ROOT / "studies/pythia-batch-sizes.yaml")
    evaluated = {"70m-0.25MtokBS": 504_000, "160m-0.5MtokBS": 12_000, "1.4b-1MtokBS": 6_000}
    assert len(study.runs) == 5
    for name, run in study.runs.items():
        assert run.sequences == 143_000 * 1024
        assert f"-{run.training.batch_size * 2048 / 2**20:g}MtokBS" in name
    for name, step in evaluated.items():
        assert step in study.steps(f"pythia-{name}")


@pytest.mark.parametrize("name", [name for name, size in CATALOGUE.items() if size.published_total])
def test_catalogue_counts_equal_the_published_ones(name: str) -> None:
    size = CATALOGUE[name]
    vocabulary = padded_vocabulary(50277, size.tensor_parallel)
    assert size.parameters(vocabulary) == size.published_total
    assert size.non_embedding_parameters == size.published_non_embedding
    assert size.width % size.heads == 0 and size.rotary_width % 2 == 0


def test_padded_vocabulary_of_the_tensor_parallel_sizes() -> None:
    assert [padded_vocabulary(50277, parallel) for parallel in (1, 2, 4)] == [50304, 50432, 50688]


def test_names_follow_the_published_pattern() -> None:
    assert run_name("pythia", "70m", "standard", 1234, "both") == "pythia-70m"
    assert run_name("pythia", "70m", "deduped", 1234, "both") == "pythia-70m-deduped"
    assert run_name("pythia", "70m", "standard", 3, "both") == "pythia-70m-seed3"
    assert run_name("pythia", "160m", "standard", 1, "data") == "pythia-160m-data-seed1"
    assert run_name("pythia", "160m", "standard", 2, "weight") == "pythia-160m-weight-seed2"


def test_schedule_edges() -> None:
    assert scheduled_steps(10, log2_until=0, every=None) == [0, 10]
    assert scheduled_steps(10, log2_until=64, every=4) == [0, 1, 2, 4, 8, 10]
    assert scheduled_steps(10, log2_until=2, every=None, extra=[5, 99]) == [0, 1, 2, 5, 10]


@pytest.mark.parametrize(("count", "most"), [(154, 11), (12, 16), (7, 3), (1, 1)])
def test_batches_keep_every_step_in_order(count: int, most: int) -> None:
    steps = list(range(count))
    batches = in_batches(steps, most)
    assert [step for batch in batches for step in batch] == steps
    assert max(map(len, batches)) <= most and max(map(len, batches)) - min(map(len, batches)) <= 1


def test_most_specific_override_wins(content: Any) -> None:
    content["overrides"] = {
        "1.7m/deduped": {"learning_rate": {"peak": 3.0e-3}},
        "1.7m/*": {"learning_rate": {"peak": 2.0e-3}, "steps": 10},
        "*": {"steps": 20},
    }
    runs = parse(content).runs
    assert runs["pythia-1.7m-deduped"].peak == 3e-3 and runs["pythia-1.7m-deduped"].training.steps == 10
    assert runs["pythia-1.7m"].peak == 2e-3
    assert runs["pythia-160k"].training.steps == 20
    assert runs["pythia-160k"].peak == CATALOGUE["160k"].learning_rate


def test_overrides_of_checkpoints_change_those_of_their_runs(content: Any) -> None:
    content["overrides"] = {
        "1.7m/*": {"checkpoints": {"schedule": {"every": 300, "until": 300}}},
        "1.7m/deduped": {"steps": 700, "checkpoints": {"schedule": "pythia"}},
    }
    study = parse(content)
    assert [step for step in study.steps("pythia-1.7m") if step > 128] == [300, 800]
    assert [step for step in study.steps("pythia-1.7m-deduped") if step > 128] == [256, 512, 700]
    assert study.optimizer_steps("pythia-1.7m") == [0, 64, 800]
    assert [step for step in study.steps("pythia-460k") if step > 128] == [200, 400, 600, 800]
    assert study.train_settings("pythia-1.7m")["steps"] == study.steps("pythia-1.7m")


def test_names_stand_in_run_names_and_nowhere_else(content: Any) -> None:
    content["names"], content["export"] = {"1.7m": "Small-2M"}, None  # which names runs
    run = parse(content).runs["pythia-Small-2M-deduped"]
    assert run.size == CATALOGUE["1.7m"]
    content["names"] = {"1.7m": "460k"}
    with pytest.raises(UserError, match=r"second run would be named 'pythia-460k'"):
        parse(content)


def test_runs_with_other_schedules_get_batches_of_their_own(content: Any) -> None:
    content["overrides"] = {"1.7m/*": {"steps": 7}}
    batches = parse(content).batches(parse(content).steps)
    labels = [batch.label for batch in batches]
    assert len(set(labels)) == len(labels) == 2
    assert {run for batch in batches for run in batch.runs} == set(parse(content).runs)


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (["results/evals/r/zero-shot/step64.json", "./models/r/step8/manifest.json"], {"r": [64, 8]}),
        (["results/memorization/r/step4.parquet", "exports/s/step4/manifest.json"], {"r": [4], "s": [4]}),
        (["results/export/r/step4.record.json", "data/tokenizer/manifest.json", "train"], {"r": [4]}),
        (["results/evals/r/zero-shot/step64.json", "evaluate"], None),
        (["results/evals/r/zero-shot/step64.json", "results/index.html"], None),
        (["checkpoints/r/manifest.json"], None),
        ([], None),
    ],
)
def test_steps_asked_by_path(names: list[str], asked: dict[str, list[int]] | None) -> None:
    assert steps_asked(names) == asked


def test_asked_steps_stay_in_their_batches(content: Any) -> None:
    content["overrides"] = {"1.7m/*": {"steps": 7}}
    content["runtime"]["checkpoints_per_batch"] = 6
    study = parse(content)
    whole = study.batches(study.steps)
    asked = {"pythia-160k": [8, 800], "pythia-460k": [8], "pythia-1.7m": [4]}
    found = [(batch.label, batch.runs, batch.steps) for batch in alone(whole, asked)]
    first, last, other = (next(b.label for b in whole if run in b.runs and step in b.steps)
                          for run, step in (("pythia-160k", 8), ("pythia-160k", 800), ("pythia-1.7m", 4)))  # fmt: skip
    assert found == [
        (first, ["pythia-160k", "pythia-460k"], [8]),
        (last, ["pythia-160k"], [800]),
        (other, ["pythia-1.7m"], [4]),
    ]
    (*_, apart) = alone(whole[:1], {"pythia-160k": whole[0].steps[:1], "pythia-460k": whole[0].steps[1:2]})
    assert (apart.label, apart.runs) == (f"{whole[0].label}_asked1", ["pythia-460k"])


REFUSALS = [
    # path of the key, bad value, what the message must say
    (["runs", 0, "sizes"], ["460m"], ["'460m'", "460k"]),
    (["runs", 0, "corpora"], ["standart"], ["'standart'", "corpora: [standard]"]),
    (["runs", 0, "seeds"], [-4], ["runs.0.seeds.0: -4", "at least 0", "seeds: [0]"]),
    (["runs", 0, "seeds"], [2**32], ["at most 4294967295"]),
    (["runs", 0, "sizes"], [], ["runs.0.sizes", "at least 1 entries"]),
    (["runs", 0, "corpora"], [], ["runs.0.corpora", "at least 1 entries"]),
    (["runs", 0, "seeds"], [1234, 1234], ["'pythia-160k'", "second run"]),
    (["training", "batchsize"], 3, ["training.batchsize", "batch_size: 3"]),
    (["training", "steps"], "400", ["training.steps", "whole number", "steps: 400"]),
    (["training", "precision"], "fp31", ["'fp32'", "'bf16'"]),
    (["training", "optimizer", "epsilon"], "1e-8", ["epsilon: 1.0e-08"]),
    (["data", "deduplication", "threshold"], 1.2, ["threshold", "at most 1"]),
    (["data", "deduplication", "threshold"], 0, ["threshold", "more than 0"]),
    (["data", "components", "legal", "readr"], "x", ["reader: x"]),
    (["data", "corpora", "standard", "components"], ["legl"], ["legl", "legal"]),
    (["checkpoints", "schedule", "extra"], [5, 3], ["increase", "[3, 5]"]),
    (["sizes"], {"x": {"layers": 2, "width": 64, "heads": 5, "learning_rate": 0.1}}, ["heads", "64", "heads: 4"]),
    (["overrides"], {"1.7m/*": {"learning_rate": {"peek": 1}}}, ["peek", "peak"]),
    (["overrides"], {"1.8m/*": {"steps": 3}}, ["1.8m/*", "no run"]),
    (["overrides"], {"1.7m/*": {"checkpoints": {"schedule": {"evry": 3}}}}, ["evry", "every"]),
    (
        ["overrides"],
        {"1.7m/*": {"checkpoints": {"schedule": {"every": 0}}}},
        ["checkpoints.schedule.every", "more than 0"],
    ),
    (["checkpoints", "schedule"], "pythya", ["no schedule is named 'pythya'", "pythia"]),
    (["checkpoints", "schedule"], {"log2_until": 1, "every": 5, "untill": 5}, ["until: 5"]),
    (["names"], {"1.8m": "x"}, ["names", "'1.8m'", "1.7m"]),
    (["names"], {"1.7m": "a/b"}, ["names.1.7m", "a/b"]),
    (["runtime", "tensorboard"], "yes", ["true or false"]),
    (["runtime", "micro_batch"], 3, ["batch_size", "micro_batch: 2"]),
    (["memorization", "prompt"], 100, ["memorization", "132", "128"]),
    (["memorization"], {"mode": "exact", "steps": None}, ["missing"]),
    (["memorisation"], {"mode": "exact", "steps": None}, ["write:   memorization: {mode: exact, steps: null}"]),
    (["memorisation"], {"x" * 60: "y" * 60}, ["write:   memorization:"]),
    (["training", "optimizer", "gradient_clipping"], float("inf"), ["gradient_clipping: inf", "a finite number"]),
    (["training", "learning_rate", "peak"], 100.0, ["peak: 100.0", "at most 1"]),
    (["training", "steps"], 143e3, ["whole number", "steps: 143000"]),
    (["data", "tokenizer", "revision"], 1234567, ["revision: '1234567'"]),
    (["training", "precision"], "fp16", ["'fp16'", "where runtime.device is cpu", "precision: fp32"]),
    (["runtime", "segments"], 801, ["runtime.segments", "at most 800"]),
    (["runtime", "threads"], 10**6, ["at most 1024"]),
    (["runtime", "data_parts"], 10**9, ["at most 10000"]),
    (["training", "steps"], 800_000_000, ["checkpoints.schedule.every", "at most 10,000 saved steps"]),
    (["training", "steps"], 800_000, ["saved steps", "at most 30,000 in a study"]),
    (["training", "batch_size"], 10**12, ["batch_size", "at most 1048576"]),
    (["overrides"], {"160k/*": {"sequence_length": 64}}, ["read one order of sequences of one length"]),
    (["data", "components", "legal"], {"files": []}, ["files", "at least 1 entries"]),
    (["data", "components", "legal"], {"files": [""]}, ["text of at least 1 characters"]),
    (["data", "components", "legal", "archive", "file"], "../x.tar.gz", ["'../x.tar.gz'", "matching"]),
    (["study"], "a" * 61, ["text of at most 60 characters"]),
    (["data", "corpora", "standard", "components"], [], ["at least 1 entries"]),
    (["data", "corpora", "standard", "components"], ["legal", "legal"], ["components: [legal]"]),
]


@pytest.mark.parametrize(("path", "value", "expected"), REFUSALS, ids=lambda value: str(value)[:40])
def test_mistakes_are_refused_with_the_fix(content: Any, path: list[Any], value: Any, expected: list[str]) -> None:
    changed = copy.deepcopy(content)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UserError) as refusal:
        parse(changed)
    for text in expected:
        assert text in str(refusal.value)


def test_every_setting_must_stand_in_the_file(content: Any) -> None:
    del content["training"]["optimizer"]["betas"]
    with pytest.raises(UserError, match=r"training\.optimizer\.betas: this key is missing"):
        parse(content)


@pytest.mark.parametrize("path", list(schema.FILES), ids=lambda path: path.name)
def test_generated_files_are_current(path: Path) -> None:
    assert path.read_text() == schema.FILES[path](), "run `make docs`"


def test_shipped_studies_name_the_schema_for_editors() -> None:
    for path in STUDIES:
        assert path.read_text().startswith("# yaml-language-server: $schema="), path


def test_the_conda_environment_holds_the_pins_of_the_lock() -> None:
    lock = [line for line in (ROOT / "envs/requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all("==" in pin for pin in lock)
    environment = read_yaml(ROOT / "envs/workflow.yaml")
    assert environment["dependencies"][-1]["pip"] == lock
    asked = [line.split(" #")[0].strip() for line in (ROOT / "envs/requirements.in").read_text().splitlines()]
    names = {pin.lower().replace("_", "-") for pin in lock}
    assert {pin.lower() for pin in asked if pin and not pin.startswith("#")} <= names


def test_steps_that_are_not_saved_are_refused() -> None:
    study = load(ROOT / "config.yaml")
    study.check_steps("pythia-160k", [0, 64])
    with pytest.raises(UserError, match=r"\[3, 5\] are not saved"):
        study.check_steps("pythia-160k", [5, 64, 3])
