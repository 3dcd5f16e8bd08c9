"""What the engine does otherwise where one process is all there are, against DeepSpeed's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from _pytest.monkeypatch import MonkeyPatch
from deepspeed.runtime.zero import stage_1_and_2

from scripts.train.neox_engine import norm_alone


@pytest.mark.parametrize("odd", [None, float("inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_of_one_process_has_the_bits_of_deepspeeds(
    monkeypatch: MonkeyPatch, dtype: torch.dtype, odd: float | None
) -> None:
    monkeypatch.setattr(stage_1_and_2.dist, "all_reduce", lambda *_, **__: None)
    zero = SimpleNamespace(
        model_parallel_rank=0, dp_process_group=None, device="cpu", _model_parallel_all_reduce=lambda **_: None
    )
    generator = torch.Generator().manual_seed(1)
    shapes = [(300, 7), (40,), (1,), (513, 129)]
    gradients = [(torch.randn(shape, generator=generator) * 10**place).to(dtype) for place, shape in enumerate(shapes)]
    if odd is not None:
        gradients[2][0] = odd
    theirs = stage_1_and_2.DeepSpeedZeroOptimizer.get_grad_norm_direct(zero, gradients, gradients)
    ours = norm_alone(gradients, gradients)
    assert ours.dtype == theirs.dtype == torch.float32
    assert torch.equal(ours, theirs)
    assert (ours == -1) == (odd is not None)
