"""The plan: published hours, bytes by hand, work by hand, the table of devices, the comparison with a finished run."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml, write_json
from scripts.common.units import bytes_short, device_time, duration, scientific, short
from scripts.export.gguf_file import KINDS, read_vocabulary, write_gguf
from scripts.export.source import open_model
from scripts.plan.costs import Plan, make_plan
from scripts.plan.jobs import jobs_by_rule, jobs_of
from scripts.plan.measured import Comparison, checkpoint_bytes, compare
from scripts.plan.page import plan_page
from scripts.plan.text import totals as plan_totals
from scripts.plan.work import characters_a_token, scored_sequences, work
from scripts.study import sampling, storage
from scripts.study.catalogue import CATALOGUE
from scripts.study.devices import choose, peak_of_gpu, rate_of, read_devices
from scripts.study.runs import flops_per_token, forward_flops_per_token
from scripts.study.storage import kept
from scripts.study.study import Study, load, parse
from tests.unit.export_models import make_model

PYTHIA = load(ROOT / "studies/pythia.yaml")
SMOKE = ROOT / "studies/smoke.yaml"
TABLE = read_devices()
# A100-40GB hours of one run of each size and their sum: Biderman et al. 2023 (Pythia), appendix
PUBLISHED = {
    "70m": 510,
    "160m": 1030,
    "410m": 2540,
    "1b": 4830,
    "1.4b": 7120,
    "2.8b": 14240,
    "6.9b": 33500,
    "12b": 72300,
}
ONE_SUITE = 136_070


def planned(study: Study, name: str = "a100-40gb", **given: Any) -> Plan:
    return make_plan(study, name, TABLE[name], **given)


def test_published_hours_come_out_for_the_published_suite() -> None:
    plan = planned(PYTHIA)
    for run in plan.runs:
        assert run.hours.training == pytest.approx(PUBLISHED[run.size])
        assert run.tokens == 299_892_736_000  # the model cards
        assert run.basis == "measured"
    assert sum(PUBLISHED.values()) == ONE_SUITE
    assert plan.hours.training == pytest.approx(2 * ONE_SUITE)  # two corpora


def test_wall_time_is_on_the_gpus_pythia_had() -> None:
    largest = next(run for run in planned(PYTHIA).runs if run.run == "pythia-12b")
    assert largest.devices == 256
    assert largest.wall_hours / 24 == pytest.approx(72300 / 256 / 24)  # 11.8 days
    fewer = next(run for run in planned(PYTHIA, devices=64).runs if run.run == "pythia-12b")
    assert fewer.wall_hours == pytest.approx(4 * largest.wall_hours)
    assert fewer.hours == largest.hours


def test_gpus_that_cannot_share_a_batch_are_refused() -> None:
    with pytest.raises(UserError, match="--gpus: 48 is not allowed"):
        planned(PYTHIA, devices=48)


def test_devices_of_the_catalogue_are_no_more_than_share_a_batch() -> None:
    content = read_yaml(ROOT / "studies/pythia.yaml")
    content["training"]["batch_size"] = 24
    run = planned(parse(content)).runs[0]
    assert run.devices == 24  # of the 32 that Pythia's 70m had


def test_a_size_that_was_not_measured_takes_the_nearest_one_s_speed() -> None:
    a100 = TABLE["a100-40gb"]
    assert rate_of(a100, CATALOGUE["14m"]).basis == "as 70m"
    assert rate_of(a100, CATALOGUE["14m"]).flops_per_second == rate_of(a100, CATALOGUE["70m"]).flops_per_second


def test_the_assumed_share_is_within_what_the_published_hours_come_to() -> None:
    a100 = TABLE["a100-40gb"]
    shares = [rate_of(a100, CATALOGUE[name]).flops_per_second / 312e12 for name in PUBLISHED]
    assert min(shares) == pytest.approx(0.18, abs=0.005) and max(shares) == pytest.approx(0.35, abs=0.005)
    for device in TABLE.values():
        assert device.assumed_mfu is None or min(shares) < device.assumed_mfu < max(shares)


def test_a_size_of_the_study_with_a_catalogue_name_is_not_taken_for_it() -> None:
    content = read_yaml(ROOT / "studies/pythia.yaml")
    content["sizes"] = {"70m": {"layers": 3, "width": 512, "heads": 8, "learning_rate": 0.001}}
    study = parse(content)
    assert rate_of(TABLE["a100-40gb"], study.sizes["70m"]).basis == "as 70m"


def test_an_unmeasured_device_says_that_it_is_assumed() -> None:
    plan = planned(PYTHIA, "h100")
    assert {run.basis for run in plan.runs} == {"assumed"}
    assert "assumed" in plan.speed_source and any("assumed" in note for note in plan.notes)
    run = plan.runs[0]
    assert run.hours.training * 3600 * 0.3 * 989e12 == pytest.approx(run.flops.training)


def test_cost_is_hours_times_price() -> None:
    plan = planned(PYTHIA, price=2.0)
    assert plan.cost == pytest.approx(2 * plan.hours.total)
    assert planned(PYTHIA).cost is None


def test_training_work_is_three_forward_passes_over_every_token() -> None:
    run, vocabulary = PYTHIA.run("pythia-70m"), 50304
    # 6 x (12 layers x width^2 + vocabulary x width) + 12 x layers x width x length
    by_hand = 6 * (12 * 6 * 512**2 + vocabulary * 512) + 12 * 6 * 512 * 2048
    assert flops_per_token(run, vocabulary) == by_hand == 3 * forward_flops_per_token(run.size, vocabulary, 2048)
    assert work(PYTHIA, "pythia-70m").training == by_hand * 299_892_736_000


def test_memorization_work_is_the_rows_times_the_tokens_fed() -> None:
    per_token = forward_flops_per_token(PYTHIA.run("pythia-70m").size, 50304, 63)
    # 154 checkpoints, 110,000 rows, 2,048 of them once more; the last of 32 + 32 tokens is generated, not fed
    assert work(PYTHIA, "pythia-70m").memorization == 154 * 112_048 * 63 * per_token


def test_tasks_of_unknown_length_are_named_and_not_guessed() -> None:
    plan = planned(PYTHIA)
    assert plan.hours.evaluation is None
    told = " ".join(plan.not_counted)
    for task_set in PYTHIA.file.evaluation.task_sets.values():
        assert all(task in told for task in task_set.tasks)
    smoke = planned(load(SMOKE), "laptop")
    assert smoke.hours.evaluation and "castalia" not in " ".join(smoke.not_counted)


def test_rows_are_counted_as_far_as_a_checkpoint_has_seen_them() -> None:
    study = load(SMOKE)  # sequences: all; 8 steps of 4 rows, 16 of them sampled and 4 repeated, 2 x 2 strings planted
    assert [scored_sequences(study, "pythia-tiny", step) for step in (0, 1, 4, 8)] == [24, 24 + 2, 24 + 6, 32 + 4]
    assert scored_sequences(study, "pythia-tiny") == 36
    assert {scored_sequences(PYTHIA, "pythia-70m", step) for step in (0, 143_000)} == {110_000}  # sequences: chosen
    plan = next(run for run in planned(study, "laptop").runs if run.run == "pythia-tiny")
    per_token = forward_flops_per_token(study.run("pythia-tiny").size, study.padded_vocabulary("pythia-tiny"), 63)
    assert plan.flops.memorization == sum((24, 26, 27, 30, 36)) * 63 * per_token


def test_export_replay_and_signal_are_work_of_the_runs_they_are_drawn_from() -> None:
    content = read_yaml(SMOKE)
    content["checkpoints"]["schedule"]["extra"] = [3, 5, 6]  # enough checkpoints after the warm-up
    content["audit"]["replay"]["models"] = 1
    study = parse(content)
    plan, (segment,), (point,) = planned(study, "laptop"), sampling.segments(study), sampling.models(study)
    runs = {run.run: run for run in plan.runs}
    forward = {
        name: forward_flops_per_token(study.run(name).size, study.padded_vocabulary(name), 64) for name in study.runs
    }
    assert runs["pythia-small"].flops.export == 4 * 64 * (1 + 2) * forward["pythia-small"]  # Transformers, two files
    assert runs["pythia-tiny"].flops.export == 0
    (looked,) = sampling.recency_runs(study)
    shown = [4 * (step - before) for before, step in pairwise([0, 3, 4, 5, 6, 8])]  # rows between checkpoints
    assert runs[looked].flops.recency == 5 * sum(shown) * 64 * forward[looked]
    trained = {
        name: 4 * 64 * 3 * forward[name] * (segment.end - segment.begin) * (segment.run == name) for name in study.runs
    }
    for name, run in runs.items():
        assert run.flops.replay - trained[name] == pytest.approx(
            (run.flops.evaluation or 0) / 8
            + 63 * scored_sequences(study, name, point.step) * memorized_flops(study, name)
            if point.run == name
            else 0,
            abs=1,
        )
        assert (run.hours.replay > 0) == (name in (segment.run, point.run))
        assert run.hours.starting == pytest.approx(sum(jobs_of(study, name).values()) * 6.5 / 3600, rel=0.2)
    told = dict(plan_totals(plan))["Device time"]
    assert all(f"{stage} " in told for stage in ("export", "replay", "recency"))
    assert "(audit" not in " ".join(plan.not_counted)


def memorized_flops(study: Study, name: str) -> int:
    return forward_flops_per_token(study.run(name).size, study.padded_vocabulary(name), 63)


def test_bytes_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHECKPOINT_EXTRA", "CHECKPOINT_EXTRA_A_LAYER", "MODEL_EXTRA", "MODEL_EXTRA_A_LAYER",
                 "TOKENIZER_A_TOKEN", "LINES_A_STEP", "RUN_EXTRA"):  # fmt: skip
        monkeypatch.setattr(storage, name, 0)
    parameters = 70_426_624  # the published total
    found = kept(PYTHIA, "pythia-70m")
    assert found.weights == found.models == 154 * 2 * parameters  # fp16
    assert found.optimizer == (19 * 12 + 4) * parameters  # at step 0 there are masters, but no moments yet
    assert found.resume == (2 + 12) * parameters
    assert found.peak == found.weights + found.models + found.optimizer + found.resume


def test_blocks_of_gguf_files_are_those_of_the_library() -> None:
    for quantization, (kind, _) in KINDS.items():
        weights, taken = GGML_QUANT_SIZES[kind]
        assert storage.GGUF[quantization] * weights == taken * storage.GGUF_BLOCK


@pytest.mark.parametrize("width", [48, 64])  # rows of 48 weights are no whole number of blocks
@pytest.mark.parametrize("quantization", ["f32", "f16", "q8_0", "q4_0"])
def test_bytes_of_a_gguf_file(tmp_path: Path, width: int, quantization: str) -> None:
    content = read_yaml(SMOKE)
    content["sizes"]["small"] |= {"width": width, "heads": 2}
    content["export"] = {"runs": ["*-small"], "quantizations": [quantization], "held_out_sequences": 4}
    folder = make_model(tmp_path / "model", hidden_size=width, intermediate_size=4 * width, num_attention_heads=2)
    source = open_model(folder)
    write_gguf(tmp_path / "file", source, read_vocabulary(folder, source.shape.vocabulary), quantization, "a model")
    study = parse(content)
    planned = storage.exported_bytes(study, "pythia-small")
    assert planned == kept(study, "pythia-small").exports == pytest.approx((tmp_path / "file").stat().st_size, rel=0.05)
    assert kept(study, "pythia-tiny").exports == 0


@settings(deadline=None)  # parsing a study takes long on a busy machine
@given(st.lists(st.integers(1, 8), unique=True, max_size=8), st.integers(1, 6), st.integers(1, 3))
def test_jobs_and_bytes_follow_the_schedule(extra: list[int], together: int, segments: int) -> None:
    """Whatever is saved: a job per batch of checkpoints, bytes in proportion to the steps, a segment a job."""
    content = read_yaml(SMOKE)
    content["checkpoints"]["schedule"] = {"log2_until": 0, "every": None, "extra": sorted(extra)}
    content["checkpoints"]["optimizer_states"]["extra"] = []
    content["runtime"] |= {"checkpoints_per_batch": together, "segments": segments}
    study = parse(content)
    saved = len({0, 8, *extra})
    for run in study.runs:
        jobs = -(-saved // together)
        found = jobs_of(study, run)
        assert {stage: found[stage] for stage in ("train", "convert", "evaluate", "memorize")} == {
            "train": segments, "convert": jobs, "evaluate": jobs, "memorize": jobs
        }  # fmt: skip
        assert found["gguf"] == found["measure"] == int(run.endswith("-small"))  # its last step
        assert kept(study, run).weights == saved * storage.weights_bytes(study, run)
    assert jobs_by_rule(study).get("train_segment", 0) == 3 * (segments - 1)


@given(st.integers(2, 200_000), st.integers(2, 200_000))
def test_a_larger_vocabulary_never_takes_fewer_characters_a_token(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert 2.0 <= characters_a_token(small) <= characters_a_token(large) <= 4.0


def test_an_unknown_device_is_refused_with_the_near_name() -> None:
    with pytest.raises(UserError, match=r"(?s)--device: 'H-100' is not allowed.*write:   --device h100"):
        choose(TABLE, "H-100", "cuda")
    assert choose(TABLE, None, "cpu") == "laptop"
    assert choose(TABLE, None, "cuda") == "a100-40gb"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{what: a, kind: cuda}", "give either `measured` or `assumed_mfu`"),
        ("{what: a, kind: cuda, assumed_mfu: 0.3}", "a fraction of `peak_teraflops`"),
        ("{what: a, kind: cuda, assumed_mfu: 2.0, peak_teraflops: 1}", "assumed_mfu: 2.0 is not allowed"),
        ("{what: a, kind: cuda, asumed_mfu: 0.3}", "write:   assumed_mfu: 0.3"),
        ("{what: a, kind: cpu, measured: {source: s, sequence_length: 8, vocabulary: 9, tokens_per_second: {70x: 1}}}",
         "'70x' is not allowed"),
        ("{what: a, kind: cpu, measured: {source: s, sequence_length: 8, vocabulary: 9, hours: {70m: 1}}}",
         "`hours` and the `tokens`"),
    ],
)  # fmt: skip
def test_mistakes_in_the_table_are_told(tmp_path: Path, row: str, told: str) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text(f"mine: {row}\n")
    with pytest.raises(UserError) as refused:
        read_devices(path)
    assert told in str(refused.value) and "mine" in str(refused.value)


def test_the_trainer_finds_the_peak_by_the_name_of_the_gpu() -> None:
    assert peak_of_gpu("NVIDIA A100-SXM4-40GB") == 312e12
    assert peak_of_gpu("NVIDIA H200") == 989e12
    assert peak_of_gpu("GeForce 256") is None


def finished_run(root: Path, study: Study, run: str, processes: int, seconds: float) -> None:
    """A finished run as the trainer leaves it, on several processes."""
    write_json(root / "results/study.json", study.file.model_dump())
    folder = root / "checkpoints" / run
    step = folder / "global_step8"
    step.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (step / "layer_00-model_00-model_states.pt").write_bytes(bytes(1000))
    (step / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(bytes(3000))
    (folder / "resume").mkdir()
    os.link(step / "layer_00-model_00-model_states.pt", folder / "resume/layer_00-model_00-model_states.pt")
    spec = study.run(run)
    tokens = spec.training.batch_size * spec.training.sequence_length
    flops = tokens * flops_per_token(spec, study.padded_vocabulary(run)) / seconds
    line = {"seconds": seconds, "tokens_per_second": tokens / seconds, "teraflops": flops / processes / 1e12}
    lines = [json.dumps({"step": number, **line}) for number in range(1, spec.training.steps + 1)]
    (folder / "timing.jsonl").write_text("\n".join(lines) + "\n")


def test_what_was_measured_stands_beside_the_plan(tmp_path: Path) -> None:
    study = load(SMOKE)
    finished_run(tmp_path, study, "pythia-tiny", processes=4, seconds=0.5)
    found = compare(study, planned(study, "laptop"), tmp_path)
    assert found.finished == 1
    rows = {(row.run, row.what): row for row in found.rows}
    assert rows["pythia-tiny", "training, steps"].measured == pytest.approx(8 * 0.5 * 4 / 3600)
    assert rows["pythia-tiny", "native weights"].measured == 1000 + len("{}") + rows_of_timing(tmp_path)
    assert rows["all", "optimizer state"].measured == 3000
    assert found.rates == {"tiny": 4 * 64 / 0.5 / 4}
    assert ("pythia-tiny", "models") not in rows  # none was made


def rows_of_timing(root: Path) -> int:
    return (root / "checkpoints/pythia-tiny/timing.jsonl").stat().st_size


def test_a_file_of_two_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    os.link(tmp_path / "a", tmp_path / "b")
    assert checkpoint_bytes(tmp_path) == (10, 0)


def test_another_study_s_folder_is_not_compared(tmp_path: Path) -> None:
    study = load(SMOKE)
    assert compare(study, planned(study, "laptop"), tmp_path).why == "nothing was run yet"
    finished_run(tmp_path, study, "pythia-tiny", processes=1, seconds=0.5)
    content = read_yaml(SMOKE)
    content["training"]["steps"] = 16
    other = parse(content)
    found = compare(other, planned(other, "laptop"), tmp_path)
    assert "another study" in found.why and not found.rows


def test_the_page_holds_the_runs_the_figure_and_what_is_missing() -> None:
    plan = planned(PYTHIA, price=2.0)
    page = plan_page(plan, Comparison(why="nothing was run yet"))
    assert all(f"<td>{run}</td>" in page for run in PYTHIA.runs)
    hours = sum(run.hours.total for run in plan.runs if run.size == "12b")
    assert "<svg" in page and f"{hours:,.0f} h" in page  # at the end of its bar
    assert "lambada_openai" in page and "nothing was run yet" in page
    assert plan.as_json()["totals"]["jobs"] == sum(jobs_by_rule(PYTHIA).values())


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (short(299_892_736_000), "300 B"), (short(999_900_000), "1,000 M"), (short(7), "7"),
        (bytes_short(23.7e9), "23.7 GB"), (bytes_short(12), "12 B"),
        (device_time(72_300), "72,300 h"), (duration(282.4), "11.8 d"), (duration(0.5), "30.0 min"),
        (duration(1 / 3600), "1.0 s"), (scientific(2.22e22), "2.22e22"),
    ],
)  # fmt: skip
def test_numbers_in_few_characters(told: str, text: str) -> None:
    assert told == text


def test_the_whole_studys_time_is_told_not_only_its_trainings() -> None:
    plan = make_plan(load(ROOT / "config.yaml"), "laptop", TABLE["laptop"])
    told = dict(plan_totals(plan))["Wall time"]
    assert told.startswith(f"the whole study from {duration(plan.hours.total)} with one device")
    assert plan.hours.total > sum(run.wall_hours for run in plan.runs)
