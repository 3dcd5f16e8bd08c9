#!/usr/bin/env bash
# DeepSpeed 0.19.8, ZeRO stage 1: safe_get_full_optimizer_state, the documented way to read a parameter's Adam moments
# while training, knows those of the optimizer's first parameter group only. Weight decay on matrices and none on biases and
# norms makes two groups, as GPT-NeoX and most recipes have them; of any parameter of the second the moments "are not
# found", after however many steps, though they are there. DeepSpeed links parameters to optimizer states once, after the
# first group's first step, when the second group has no state yet.
# Seen: a tensor for the weight (group 0); for the bias (group 1) an error that names exp_avg.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 deepspeed==0.19.8 numpy setuptools
cd "$folder"
export DS_ACCELERATOR=cpu RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=localhost MASTER_PORT=29517
"$folder/env/bin/python" - 2> "$folder/errors" <<'PYTHON'
import deepspeed
import deepspeed.ops
import torch
from deepspeed.utils import safe_get_full_optimizer_state

deepspeed.ops.__compatible_ops__ = {}  # no extension to compile
torch.distributed.init_process_group("gloo")
model = torch.nn.Linear(4, 4)
groups = [{"params": [model.weight], "weight_decay": 0.1}, {"params": [model.bias], "weight_decay": 0.0}]
config = {"train_batch_size": 1, "zero_optimization": {"stage": 1}, "zero_allow_untested_optimizer": True}
engine, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(groups), config=config)
for _ in range(3):
    engine.backward(engine(torch.ones(1, 4)).sum())
    engine.step()
print("deepspeed", deepspeed.__version__)
print("  group 0:", tuple(safe_get_full_optimizer_state(model.weight, "exp_avg").shape))
try:
    found = safe_get_full_optimizer_state(model.bias, "exp_avg")
except (ValueError, KeyError) as error:
    assert "exp_avg" in str(error), f"changed: another error, {error!r}"
    print("  group 1:", f"{type(error).__name__}: {error}"[:100])
else:
    raise SystemExit(f"changed: the second group's moments are found now: {found!r}")
held = [state for state in engine.optimizer.optimizer.state.values() if "exp_avg" in state]
assert len(held) == 2, f"changed: {len(held)} states"
print(f"  the optimizer holds exp_avg for {len(held)} groups")
PYTHON
echo "as described"
