"""Reading DeeperSpeed's and NeoX's old optimizer states, as an independent writer makes them."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deepspeed.runtime.zero.config import ZeroStageEnum
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.errors import UserError
from scripts.convert import inspect
from scripts.neox.files import mapping
from scripts.neox.flat import cut, join_partitions, neox_v1_groups
from scripts.neox.optimizer import read_optimizer
from scripts.neox.takeover import OptimizerState
from scripts.train.engine import by_value
from tests.unit import neox_writer
from tests.unit.neox_writer import Model


def assert_state(found: OptimizerState, whole: dict[str, neox_writer.Values]) -> None:
    """Every number equal to the one written, bit for bit."""
    assert set(found.parameters) == set(whole["master"])
    for name, held in found.parameters.items():
        for key in neox_writer.KEYS:
            tensor = getattr(held, key)
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, whole[key][name]), (key, name)


models = st.builds(
    Model,
    blocks=st.integers(1, 2),
    width=st.sampled_from([8, 16]),
    vocabulary=st.sampled_from([16, 24]),
    tensor_parallel=st.sampled_from([1, 2, 4]),
    data_parallel=st.integers(1, 4),
    elements_a_communication=st.integers(40, 6000),
    counts=st.sampled_from(["last", "none"]),
    seed=st.integers(0, 2**31),
)


@settings(max_examples=40, deadline=None)
@given(models)
def test_an_elastic_state_comes_back_bit_for_bit(model: Model) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = neox_writer.write(Path(folder) / "step", model)
        found = read_optimizer(Path(folder) / "step", model.blocks)
        assert found.dialect == "zero-elastic"
        assert_state(found, whole)
        assert found.adam_steps == (model.adam_steps if model.counts == "last" else None)
        assert found.progress.applied == 7


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_a_state_without_zero_comes_back_bit_for_bit(tmp_path: Path, tensor_parallel: int) -> None:
    """Pythia 14m and 31m: sequential, FP16_Optimizer; apex keeps its count in the groups."""
    whole = neox_writer.write_sequential(tmp_path / "step", Model(blocks=2, tensor_parallel=tensor_parallel))
    found = read_optimizer(tmp_path / "step", 2)
    assert found.dialect == "fp16"
    assert_state(found, whole)
    assert found.adam_steps == 8
    assert found.loss_scale is not None
    assert (found.loss_scale.scale, found.loss_scale.last_overflow, found.loss_scale.hysteresis) == (2048.0, 2, None)


def test_masters_by_tensor_come_back_bit_for_bit(tmp_path: Path) -> None:
    """DeepSpeed's unfused FP16 optimizer: fp32_groups, and a state of its own for every tensor."""
    whole = neox_writer.write_sequential(tmp_path / "step", Model())
    path = tmp_path / "step/mp_rank_00_model_states.pt"
    content = torch.load(path, weights_only=False)
    names = [name for group in neox_writer.groups(1) for name in group]
    state = {n: {key: whole[key][name] for key in neox_writer.KEYS[1:]} for n, name in enumerate(names)}
    ends = [0, len(neox_writer.groups(1)[0]), len(names)]
    spans = [range(ends[g], ends[g + 1]) for g in range(2)]
    optimizer = content["optimizer"]
    del optimizer["fp32_groups_flat"]
    optimizer["fp32_groups"] = [[whole["master"][names[n]] for n in span] for span in spans]
    optimizer["optimizer_state_dict"] = {"state": state, "param_groups": [{"params": list(span)} for span in spans]}
    torch.save(content, path)
    found = read_optimizer(tmp_path / "step", 1)
    assert_state(found, whole)
    assert found.adam_steps is None


def test_padding_between_tensors_is_left_out() -> None:
    """param_alignment_paddings of DeepSpeed 0.19.8: elements after each tensor that belong to none."""
    names = [(0, "a"), (0, "b"), (0, "c")]
    found = cut(torch.arange(14), names, {names[0]: (3,), names[1]: (2, 2), names[2]: (1,)}, [1, 4, 0])
    assert [tensor.tolist() for tensor in found.values()] == [[0, 1, 2], [[4, 5], [6, 7]], [12]]


def test_the_scaler_and_the_counters_are_read(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model())
    found = read_optimizer(tmp_path / "step", 1)
    scale, progress = found.loss_scale, found.progress
    assert scale is not None
    assert (scale.scale, scale.window, scale.iteration, scale.last_overflow) == (4096.0, 1000, 9, 3)
    assert (scale.hysteresis, scale.hysteresis_full) == (1, 2)
    assert (progress.iteration, progress.global_steps, progress.skipped_steps) == (8, 8, 1)
    assert progress.lr_scheduler is not None
    assert progress.lr_scheduler["num_iters"] == 7


def test_no_class_of_deepspeed_is_needed_or_run(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model())
    loaded = set(sys.modules)
    read_optimizer(tmp_path / "step", 1)
    assert not [name for name in set(sys.modules) - loaded if name.startswith("deepspeed")]
    path = tmp_path / "step/zero_pp_rank_0_mp_rank_00_optim_states.pt"
    assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == [
        "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler"
    ]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Model(), "random number states"),
        (Model(), "the dtype of the weights, float16"),
        (Model(), "one of Adam's steps is no update"),
        (Model(counts="none"), "Adam's count of steps: not in the files"),
        (Model(adam_steps=3), "it is 3, for 7 updates applied"),
        (Model(adam_steps=7, tensor_parallel=2), "the pace of attention.dense.bias and mlp.dense_4h_to_h.bias"),
    ],
)
def test_what_is_not_taken_over_is_told(tmp_path: Path, model: Model, sentence: str) -> None:
    neox_writer.write(tmp_path / "step", model)
    found = read_optimizer(tmp_path / "step", 1)
    assert [line for line in found.not_taken if sentence in line]
    assert found.taken[0].startswith(f"fp32 weights of {len(found.parameters)} tensors")


def test_what_is_whole_is_not_told_as_lost(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model(adam_steps=7))
    told = " ".join(read_optimizer(tmp_path / "step", 1).not_taken)
    assert "Adam" not in told
    assert "tensor-parallel" not in told
    assert "hysteresis" not in told


def test_moments_that_differ_between_ranks_are_told(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model(tensor_parallel=2, data_parallel=1))

    def move(state: dict[str, Any]) -> None:
        state["base_optimizer_state"][1][0]["exp_avg"][0] += 1.0  # of the first norm

    change(tmp_path / "step/zero_pp_rank_0_mp_rank_01_optim_states.pt", move)
    told = [line for line in read_optimizer(tmp_path / "step", 1).not_taken if "of which the mean was taken" in line]
    assert "exp_avg of input_layernorm.weight of layer 2 (1)" in told[0]


def change(path: Path, how: Callable[[dict[str, Any]], None]) -> None:
    """Change the optimizer state in a ZeRO file."""
    content = torch.load(path, weights_only=False, pickle_module=_Pickle)
    how(content["optimizer_state_dict"])
    with neox_writer.old_scaler() as scaler:
        held = scaler()
        vars(held).update(neox_writer.SCALER)
        content["optimizer_state_dict"]["loss_scaler"] = held
        torch.save(content, path)


class _Pickle:
    """pickle, but any scaler becomes a plain object, so that no DeepSpeed is imported."""

    import pickle as _pickle

    load, loads = _pickle.load, _pickle.loads

    class Unpickler(_pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if module.startswith("deepspeed"):
                return type(name, (), {})
            return super().find_class(module, name)


def drop_elements(state: dict[str, Any]) -> None:
    group = state["local_sub_partitions_of_fp32_groups"][0]
    group[0] = group[0][:-1]


def drop_interval(state: dict[str, Any]) -> None:
    state["local_sub_partitions_of_fp32_groups"][0].pop()


def drop_moment(state: dict[str, Any]) -> None:
    del state["base_optimizer_state"][0][0]["exp_avg_sq"]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "partition count": (lambda state: state.update(partition_count=3), "'partition_count' is 3, there are files of 2"),
    "elements": (drop_elements, r"sub-partition of rank 1, interval 0 has shape \(149,\).* leave it 150"),
    "interval": (drop_interval, "'num_comm_intervals_per_group' is .* its masters have"),
    "moment": (drop_moment, "has no 'exp_avg_sq'; it has exp_avg, step"),
    "dialect": (lambda state: state.pop("partition_count"), "has no 'partition_count'"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_wrong_file_is_refused(tmp_path: Path, kind: str) -> None:
    how, message = CHANGES[kind]
    neox_writer.write(tmp_path / "step", Model())
    change(tmp_path / "step/zero_pp_rank_1_mp_rank_00_optim_states.pt", how)
    with pytest.raises(UserError, match=message) as error:
        read_optimizer(tmp_path / "step", 1)
    assert str(tmp_path / "step") in str(error.value)


@pytest.mark.parametrize("lost", ["zero_pp_rank_0_mp_rank_01", "zero_pp_rank_2_mp_rank_00"])
def test_a_missing_rank_is_refused(tmp_path: Path, lost: str) -> None:
    neox_writer.write(tmp_path / "step", Model(tensor_parallel=2, data_parallel=3))
    (tmp_path / f"step/{lost}_optim_states.pt").unlink()
    with pytest.raises(UserError, match=rf"{lost}_optim_states\.pt: the file is missing; 3 data-parallel ranks"):
        read_optimizer(tmp_path / "step", 1)


def test_a_rank_too_many_is_refused(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model())
    path = tmp_path / "step/zero_pp_rank_1_mp_rank_00_optim_states.pt"
    (tmp_path / "step/zero_pp_rank_2_mp_rank_00_optim_states.pt").write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"zero_pp_rank_2_mp_rank_00_optim_states\.pt: one file too many"):
        read_optimizer(tmp_path / "step", 1)


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    neox_writer.write(tmp_path / "step", Model())
    path = tmp_path / "step/zero_pp_rank_1_mp_rank_00_optim_states.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"zero_pp_rank_1_mp_rank_00_optim_states\.pt: truncated, or no torch file"):
        read_optimizer(tmp_path / "step", 1)


def test_weights_of_another_step_are_refused(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model())
    neox_writer.write(tmp_path / "other", Model(seed=1))
    name = "layer_02-model_00-model_states.pt"
    (tmp_path / "step" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(UserError, match=r"layer_02-model_00.* is not what the optimizer's fp32 weights round to"):
        read_optimizer(tmp_path / "step", 1)


def test_another_order_of_the_groups_is_refused(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model())
    decayed, fixed = neox_v1_groups(1)
    with pytest.raises(UserError, match=r"order of group 0 differs from param_shapes at .* of layer"):
        read_optimizer(tmp_path / "step", 1, [decayed[::-1], fixed])
    with pytest.raises(UserError, match="master of group 0: the sub-partition of rank 1, interval 2 has"):
        read_optimizer(tmp_path / "step", 1, [decayed[:-1], [*fixed, decayed[-1]]])


def test_another_grouping_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [(layer, name) for layer, name, _ in neox_writer.walk(1)]
    monkeypatch.setattr(neox_writer, "groups", lambda blocks: [names])
    whole = neox_writer.write(tmp_path / "step", Model())
    assert_state(read_optimizer(tmp_path / "step", 1, [names]), whole)
    with pytest.raises(UserError, match=r"'num_comm_intervals_per_group' is \[\d+\] for 2 groups"):
        read_optimizer(tmp_path / "step", 1)


def test_shapes_of_another_model_are_refused(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model())
    neox_writer.write(tmp_path / "wide", Model(width=16))
    for path in (tmp_path / "wide").glob("zero_pp_rank_*"):
        (tmp_path / "step" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"param_shapes has \(16, 16\) for word_embeddings.* its weights are \(16, 8\)"):
        read_optimizer(tmp_path / "step", 1)


def test_a_checkpoint_without_optimizer_state_says_so(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model())
    for path in (tmp_path / "step").glob("zero_pp_rank_*"):
        path.unlink()
    with pytest.raises(UserError, match="holds weights and no optimizer state"):
        read_optimizer(tmp_path / "step", 1)
    rows, taken, lost = inspect.described(tmp_path / "step")
    assert ("optimizer state", "none") in rows
    assert taken == ["the weights of the model"]
    assert lost == ["the optimizer state: this checkpoint holds none"]


@settings(max_examples=100)
@given(st.integers(1, 200), st.integers(1, 5), st.booleans())
def test_partitions_of_today_are_joined_without_their_padding(size: int, ranks: int, lean: bool) -> None:
    vector = torch.arange(1, size + 1).float()
    length = 2 * -(-size // (2 * ranks))
    padded = torch.cat([vector, torch.zeros(length * ranks - size)])
    parts = [padded[rank * length : (rank + 1) * length] for rank in range(ranks)]
    last = size - length * (ranks - 1)
    if lean and last >= 0:
        parts[-1] = parts[-1][:last]
    assert torch.equal(join_partitions(parts, size, "here"), vector)
    with pytest.raises(UserError, match=r"here: the part of rank 0 has shape"):
        join_partitions([parts[0][:-1], *parts[1:]] if ranks > 1 else [parts[0][:0]], size, "here")


def test_inspecting_shows_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    neox_writer.write(tmp_path / "step", replace(Model(), tensor_parallel=2, blocks=2, data_parallel=3))
    monkeypatch.setattr(sys, "argv", ["inspect_neox", "--folder", str(tmp_path / "step")])
    inspect.main()
    shown = capsys.readouterr().out
    for line in ("blocks │ 2", "width │ 8", "heads │ 4", "dtype │ float16", "tensor parallel │ 2", "data parallel │ 3"):
        assert line in re.sub(" +", " ", shown)
    assert "zero-elastic" in shown
    assert "- loss scale 4096, window 1000" in shown
    assert "Can not, or not quite:" in shown
    monkeypatch.setattr(sys, "argv", ["inspect_neox", "--folder", str(tmp_path / "nothing")])
    with pytest.raises(UserError, match="no such folder"):
        inspect.main()


class ByName:
    """Pickled as Python 3.11.2 pickles a member of an enum: as getattr(class, name)."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return getattr, self.arguments


def test_the_stage_of_zero_has_one_form_whatever_the_python_and_other_calls_are_refused(tmp_path: Path) -> None:
    torch.save({"zero_stage": ByName(ZeroStageEnum, "optimizer_states")}, tmp_path / "old.pt")
    assert mapping(tmp_path / "old.pt") == {"zero_stage": 1}
    for arguments in ((ZeroStageEnum, "__class__"), (np.ndarray, "tofile"), (ZeroStageEnum, "gradients", 1)):
        torch.save({"x": ByName(*arguments)}, tmp_path / "hostile.pt")
        with pytest.raises(UserError, match=r"hostile\.pt: "):
            mapping(tmp_path / "hostile.pt")
    assert by_value(ZeroStageEnum.gradients, 2) == (ZeroStageEnum, (2,))
