"""The trainer's model and recipe against independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from _pytest.monkeypatch import MonkeyPatch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from scripts.common.errors import UserError
from scripts.neox.attention import Rotate, angles
from scripts.neox.loss import LOGITS, mean_loss, token_losses
from scripts.neox.model import GPTNeoX, deviations, initialize
from scripts.neox.weights import to_transformers, transformers_config
from scripts.study.catalogue import CATALOGUE, Size, padded_vocabulary
from scripts.study.config.study_file import LearningRate, Runtime, Training
from scripts.study.resources import check_recipe, micro_batch
from scripts.study.runs import Run
from scripts.train.engine import World, update
from scripts.train.metrics import Speed, flops_per_token
from scripts.train.recipe import decay_groups, learning_rate
from scripts.train.train import Batches

SMALL = Size("small", layers=3, width=64, heads=4, learning_rate=1e-3)
VOCABULARY, LENGTH = 96, 24


def built(size: Size = SMALL, seed: int = 1234, recompute: bool = False) -> GPTNeoX:
    model = GPTNeoX(size, VOCABULARY, LENGTH, recompute)
    initialize(model, size, seed)
    return model


def plain_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def as_transformers(model: GPTNeoX, size: Size) -> GPTNeoXForCausalLM:
    shape = {"padded_vocabulary": VOCABULARY, "width": size.width, "layers": size.layers, "heads": size.heads}
    reference = GPTNeoXForCausalLM(GPTNeoXConfig(**transformers_config(shape, LENGTH, "float32")))
    found = {number: module.state_dict() for number, module in model.numbered().items()}
    reference.load_state_dict(to_transformers(found, size.layers), strict=True)
    return reference


@pytest.mark.parametrize("name", [name for name, size in CATALOGUE.items() if size.published_total])
def test_parameter_counts_equal_the_published_ones(name: str) -> None:
    size = CATALOGUE[name]
    with torch.device("meta"):
        model = GPTNeoX(size, padded_vocabulary(50277, size.tensor_parallel), 8)
    counts = [sum(p.numel() for p in m.parameters()) for m in model.children()]
    assert sum(counts) == size.published_total
    assert sum(counts[1:-1]) == size.published_non_embedding


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("size", [SMALL, Size("wide", 2, 80, 2, 1e-3), Size("narrow heads", 1, 32, 4, 1e-3)])
def test_forward_and_gradients_equal_transformers(size: Size, recompute: bool) -> None:
    model = built(size, recompute=recompute)
    reference = as_transformers(model, size)
    ids = torch.randint(0, VOCABULARY, (2, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    theirs = reference(ids[:, :-1]).logits
    assert (model(ids[:, :-1]) - theirs).abs().max() < 1e-5
    model(ids[:, :-1], ids[:, 1:]).backward()
    plain_loss(theirs, ids[:, 1:]).backward()
    gradients = to_transformers(
        {
            number: {name: tensor.grad for name, tensor in module.named_parameters()}
            for number, module in model.numbered().items()
        },
        size.layers,
    )
    for name, parameter in reference.named_parameters():
        assert (gradients[name] - parameter.grad).abs().max() < 1e-6, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 64, 65, 200])  # one span of 64, a bit more, four
def test_the_loss_in_spans_is_the_whole_one(tokens: int, dtype: torch.dtype, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setitem(LOGITS, "cpu", 1)
    generator = torch.Generator().manual_seed(tokens)
    states = torch.randn(tokens, 16, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, 16, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, VOCABULARY, (tokens,), generator=generator)
    whole = torch.nn.functional.cross_entropy((states @ weight.T).float(), targets, reduction="none")
    (3 * whole.mean()).backward()  # three stands for the loss scale and the fraction of a micro-batch
    wanted = [tensor.grad for tensor in (states, weight)]
    states.grad = weight.grad = None
    assert torch.allclose(token_losses(states.detach(), weight.detach(), targets), whole, atol=1e-6)
    loss = mean_loss(states, weight, targets)
    assert torch.allclose(loss, whole.mean(), atol=1e-6)
    (3 * loss).backward()
    for tensor, expected in zip((states, weight), wanted, strict=True):
        assert tensor.grad is not None and expected is not None and tensor.grad.dtype == dtype
        off = (tensor.grad - expected).float().norm() / expected.float().norm()
        assert off < (1e-6 if dtype == torch.float32 else 5e-3)


def test_a_second_way_back_through_the_loss_is_refused() -> None:
    states, weight = torch.randn(6, 4, requires_grad=True), torch.randn(8, 4, requires_grad=True)
    loss = mean_loss(states, weight, torch.arange(6))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["70m", "12b"])
def test_rotation_is_the_formula_with_its_bits_there_and_back(name: str, dtype: torch.dtype) -> None:
    """gpt-neox's rotate_half, written down head by head; the way back of a rotation is the rotation by -angle."""
    size, length = CATALOGUE[name], 5
    rotary, heads, width = size.rotary_width, size.heads, size.head_width
    mixed = torch.randn(2, length, heads, 3, width, generator=torch.Generator().manual_seed(1)).to(dtype)
    degrees = torch.outer(torch.arange(length).float(), 10_000.0 ** -(torch.arange(0, rotary, 2).float() / rotary))

    def turned(part: torch.Tensor, sign: int) -> torch.Tensor:
        first, second = part[..., : rotary // 2].float(), part[..., rotary // 2 : rotary].float()
        cosine, sine = degrees.cos()[:, None], sign * degrees.sin()[:, None]
        halves = (first * cosine).addcmul(second, -sine), (second * cosine).addcmul(first, sine)
        return torch.cat([*(half.to(dtype) for half in halves), part[..., rotary:]], -1)

    leaf = mixed.clone().requires_grad_()
    tables = angles(size, 2 * length, torch.device("cpu")).of(0, length)
    found = Rotate.apply(leaf, *tables)
    upstream = [torch.randn(each.shape, generator=torch.Generator().manual_seed(2)).to(dtype) for each in found]
    torch.autograd.backward(found, upstream)
    assert leaf.grad is not None
    for place, (part, gradient) in enumerate(zip(found, upstream, strict=True)):
        there, back = mixed[..., place, :], gradient.transpose(1, 2)
        assert torch.equal(part.transpose(1, 2), there if place == 2 else turned(there, 1))
        assert torch.equal(leaf.grad[..., place, :], back if place == 2 else turned(back, -1))


def test_a_large_loss_scale_and_many_tokens_do_not_leave_fp16() -> None:
    """The mean's gradient of one token among 65,536 is below fp16's smallest number before the loss scale comes in."""
    states = torch.zeros(1 << 16, 8, dtype=torch.float16, requires_grad=True)
    weight = torch.eye(8, dtype=torch.float16).mul_(0.01).requires_grad_()
    (4096 * mean_loss(states, weight, torch.zeros(1 << 16, dtype=torch.int64))).backward()
    assert states.grad is not None
    assert states.grad[0, 0].item() == pytest.approx(-4096 * 0.01 * 7 / 8 / (1 << 16), rel=0.01)


def test_five_updates_equal_a_plain_loop_on_transformers() -> None:
    model = built()
    reference = as_transformers(model, SMALL)
    ours = torch.optim.AdamW(decay_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
    theirs = torch.optim.AdamW(decay_groups(reference, 0.1), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, foreach=False)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        ids = torch.randint(0, VOCABULARY, (4, LENGTH + 1), generator=generator)
        mine = model(ids[:, :-1], ids[:, 1:])
        other = plain_loss(reference(ids[:, :-1]).logits, ids[:, 1:])
        for value, parameters, optimizer in (
            (mine, model.parameters(), ours),
            (other, reference.parameters(), theirs),
        ):
            value.backward()
            torch.nn.utils.clip_grad_norm_(list(parameters), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        assert abs(mine.item() - other.item()) < 1e-5


def test_initialization_has_the_deviations_of_the_formulas() -> None:
    size = Size("wide", layers=4, width=256, heads=4, learning_rate=1e-3)
    block = built(size).numbered()[3]
    narrow, residual = math.sqrt(2 / (5 * 256)), 2 / (4 * math.sqrt(256))
    assert block.attention.query_key_value.weight.std().item() == pytest.approx(narrow, rel=0.02)
    assert block.mlp.dense_h_to_4h.weight.std().item() == pytest.approx(narrow, rel=0.02)
    assert block.attention.dense.weight.std().item() == pytest.approx(residual, rel=0.02)
    assert block.mlp.dense_4h_to_h.weight.std().item() == pytest.approx(residual, rel=0.02)
    assert block.mlp.dense_4h_to_h.bias.abs().max() == 0 and (block.input_layernorm.weight == 1).all()


@pytest.mark.parametrize(
    ("name", "narrow", "residual"),
    # facts of the published files and formulas; 6.9b measured at step 0 in EleutherAI/pythia#135
    [("70m", 0.027951, 0.014731), ("1b", 0.013975, 0.002762), ("6.9b", 0.02, 0.0025), ("12b", 0.02, 0.002357)],
)
def test_deviations_of_pythia_sizes(name: str, narrow: float, residual: float) -> None:
    assert deviations(CATALOGUE[name]) == pytest.approx((narrow, residual), abs=1e-6)


def test_init_depends_on_the_seed_only() -> None:
    again, other = built(), built(seed=1)
    first = built()
    weights = [model.numbered()[0].word_embeddings.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def shape(schedule: str) -> LearningRate:
    return LearningRate(schedule=schedule, warmup_fraction=0.01, floor_fraction=0.1)


@pytest.mark.parametrize(
    ("applied", "fraction"),
    [(0, 0.0), (5, 0.5), (10, 1.0), (500, 1.0), (800, 1.0), (850, 0.775), (900, 0.55), (1000, 0.1), (1200, 0.1)],
)
def test_wsd_is_flat_and_then_a_line_to_the_floor(applied: int, fraction: float) -> None:
    wsd = LearningRate(schedule="wsd", warmup_fraction=0.01, floor_fraction=0.1, decay_fraction=0.2)
    assert learning_rate(applied, 1000, 2e-3, wsd) == pytest.approx(2e-3 * fraction)


def test_a_decay_share_belongs_to_wsd_alone() -> None:
    with pytest.raises(ValueError, match="goes with schedule: wsd"):
        LearningRate(schedule="wsd", warmup_fraction=0.01, floor_fraction=0.1)
    with pytest.raises(ValueError, match="goes with schedule: wsd"):
        LearningRate(schedule="cosine", warmup_fraction=0.01, floor_fraction=0.1, decay_fraction=0.2)


@pytest.mark.parametrize(
    ("applied", "fraction"),
    # gpt-neox v1.0's curve over Pythia's 143,000 steps, computed from its formula
    [
        (0, 0.0),
        (1, 1 / 1430),
        (715, 0.5),
        (1430, 1.0),
        (71_500, 0.5157),
        (100_000, 0.2199),
        (115_139, 0.1),
        (143_000, 0.1),
    ],
)
def test_pythia_learning_rate(applied: int, fraction: float) -> None:
    assert learning_rate(applied, 143_000, 2e-4, shape("pythia-v1")) == pytest.approx(2e-4 * fraction, rel=5e-4)


@pytest.mark.parametrize(
    ("applied", "fraction"), [(71_500, 0.5571), (100_000, 0.2898), (115_139, 0.1833), (143_000, 0.1)]
)
def test_usual_cosine(applied: int, fraction: float) -> None:
    assert learning_rate(applied, 143_000, 1.0, shape("cosine")) == pytest.approx(fraction, abs=2e-3)


def test_decay_spares_norms_and_biases() -> None:
    model = built()
    decayed, spared = decay_groups(model, 0.1)
    assert {p.ndim for p in decayed["params"]} == {2} and {p.ndim for p in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert sum(len(group["params"]) for group in (decayed, spared)) == len(list(model.parameters()))


def test_counted_work_is_what_torch_counts() -> None:
    """torch counts the products of a forward and backward pass; the embedding's look-up is none."""
    training = Training.model_construct(sequence_length=LENGTH, batch_size=2)
    run = Run("r", SMALL, "c", 1, 1, training)
    ids = torch.randint(0, VOCABULARY, (2, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        plain_loss(built()(ids[:, :-1]), ids[:, 1:]).backward()
    assert counter.get_total_flops() == pytest.approx(2 * LENGTH * flops_per_token(run, VOCABULARY), rel=0.02)
    measured = Speed(run, VOCABULARY, torch.device("cpu"), 2).of(0.5)
    assert measured["tokens_per_second"] == 4 * LENGTH
    assert "mfu" not in measured
    assert 50 < measured["peak_megabytes"] < 100_000


class Counted:
    """Stands for a corpus in order: sequence p holds p, p + 1, .."""

    def sequences(self, start: int, stop: int) -> np.ndarray:
        return np.arange(start, stop)[:, None] + np.arange(LENGTH + 1)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("micro", [1, 2])
def test_every_world_and_micro_batch_reads_the_same_sequences_in_the_same_order(size: int, micro: int) -> None:
    """The ranks' micro-batches, laid side by side as gpt-neox's sampler deals them, are the step's sequences."""
    run = Run("r", SMALL, "c", 1, 1, Training.model_construct(sequence_length=LENGTH, batch_size=8))
    ranks = [Batches(Counted(), run, micro, World(rank, size, rank)) for rank in range(size)]  # type: ignore[arg-type]
    alone = Batches(Counted(), run, 8, World(0, 1, 0))  # type: ignore[arg-type]
    for step in (0, 1, 5):
        wanted = Counted().sequences(8 * step, 8 * step + 8)
        assert {batches.start_step(step) for batches in ranks} == {alone.start_step(step)}
        dealt = [next(batches) for _ in range(8 // (micro * size)) for batches in ranks]
        assert np.array_equal(torch.cat([inputs for inputs, _ in dealt]), wanted[:, :-1])
        assert np.array_equal(torch.cat([labels for _, labels in dealt]), wanted[:, 1:])
        assert all(next(batches, None) is None for batches in ranks)


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "sequences"),
    [(1024, 32, 32, 32), (1024, 16, 64, 16), (1024, None, 8, 128), (8, 4, 1, 4), (8, 100, 2, None), (8, 3, 1, None)],
)
def test_micro_batches_make_the_batch_or_are_refused(
    batch: int, micro: int | None, processes: int, sequences: int | None
) -> None:
    run = Run("r", SMALL, "c", 1, 1, Training.model_construct(batch_size=batch))
    runtime = Runtime.model_construct(micro_batch=micro)
    if sequences is not None:
        assert micro_batch(run, runtime, processes) == sequences
        return
    with pytest.raises(UserError, match=f"runtime.micro_batch: {micro} is not allowed\n.* a divisor of r's batch_size"):
        micro_batch(run, runtime, processes)


def test_a_batch_that_processes_cannot_share_is_refused() -> None:
    run = Run("r", SMALL, "c", 1, 1, Training.model_construct(batch_size=1024))
    with pytest.raises(UserError, match=r"training\.batch_size 1024 is not divisible by 3 processes"):
        micro_batch(run, Runtime.model_construct(micro_batch=None), 3)


class Diverged:
    """Stands for an engine whose gradients overflow, with DeepSpeed's own scaler at its lowest scale."""

    global_steps, device = 6, torch.device("cpu")

    def __init__(self) -> None:
        self.scaler = DynamicLossScaler(init_scale=1, scale_window=1000, min_scale=1, delayed_shift=1,
                                        consecutive_hysteresis=False, dtype=torch.half)  # fmt: skip

    def gradient_accumulation_steps(self) -> int:
        return 1

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return torch.tensor(1.0)

    def backward(self, loss: torch.Tensor) -> None: ...

    def step(self) -> None:
        self.scaler.update_scale(overflow=True)


def test_an_overflow_at_the_lowest_loss_scale_is_told() -> None:
    sequences = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(UserError, match="step 7: gradients overflow fp16 even at the lowest loss scale"):
        update(Diverged(), iter([(sequences, sequences)]))


def test_what_deepspeed_gets_wrong_is_refused() -> None:
    for precision in ("bf16", "fp16"):
        run = Run("r", SMALL, "c", 1, 1, Training.model_construct(precision=precision))
        with pytest.raises(UserError, match="zero_stage: 0 is not allowed"):
            check_recipe(run, Runtime.model_construct(zero_stage=0, device="cuda"))
    run = Run("r", SMALL, "c", 1, 1, Training.model_construct(precision="fp16"))
    with pytest.raises(UserError, match=r"fp32 or bf16 where runtime\.device is cpu"):
        check_recipe(run, Runtime.model_construct(zero_stage=1, device="cpu"))
