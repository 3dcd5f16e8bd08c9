"""A Transformers config.json of somebody else: what it says of a GPT-NeoX, in every spelling, and what it may not say.

Keys are those that Transformers 5.23 reads to build, load or run the model, and the spellings of versions before.
"""

from __future__ import annotations

import math
from typing import Any

from scripts.common.errors import UserError
from scripts.neox.architecture import Activation, Architecture, shown

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "erf",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
}
HIDDEN_ACT: dict[Activation, str] = {"tanh": "gelu_pytorch_tanh", "erf": "gelu"}  # what conversion writes
SIZES = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)
# Other values make another model, or name code, layers or files that the loader would take instead. An absent key has
# the value that stands here; so has model_type for none, which is asked for.
FIXED: dict[str, Any] = {
    "tie_word_embeddings": False,
    "attention_bias": True,
    "is_causal": True,
    "attribute_map": None,
    "auto_map": None,
    "configuration_files": None,
    "fusion_config": None,
    "layer_types": None,
    "per_layer_config": None,
    "quantization_config": None,
    "text_config": None,
    "transformers_weights": None,
}
ROPE = ("rope_parameters", "rope_scaling")  # from Transformers 5 on, and before
ROTARY = {  # ours: (in Transformers 5, before, default)
    "rotary_fraction": ("partial_rotary_factor", "rotary_pct", 0.25),
    "rotary_base": ("rope_theta", "rotary_emb_base", 10_000.0),
}
SPELLED = {"torch_dtype": "dtype"}  # before: in Transformers 5
APART = {"transformers_version", *ROPE, *(name for new, old, _ in ROTARY.values() for name in (new, old))}
KEYS = {
    **{ours: new for ours, (new, _, _) in ROTARY.items()},
    "epsilon": "layer_norm_eps",
    "parallel_residual": "use_parallel_residual",
}


def faults(config: Any) -> list[str]:
    """Sentences on what of a config.json is no GPT-NeoX that is computed here; `architecture` then has the rest."""
    if not isinstance(config, dict):
        return [f"it holds {type(config).__name__}, not keys"]
    lines = [
        f"{key} is {shown(value)}, expected {wanted!r}"
        for key, wanted in {"model_type": "gpt_neox", **FIXED}.items()
        if (value := config.get(key, FIXED.get(key))) != wanted
    ]
    if (act := config.get("hidden_act", "gelu")) not in list(ACTIVATIONS):
        lines.append(f"hidden_act is {shown(act)}, expected one of {', '.join(ACTIVATIONS)}")
    if not isinstance(residual := config.get("use_parallel_residual", True), bool):
        lines.append(f"use_parallel_residual is {shown(residual)}, expected True or False")
    if not 0 < (_number(config.get("layer_norm_eps", 1e-5)) or 0) < 1:
        lines.append(f"layer_norm_eps is {shown(config.get('layer_norm_eps'))}, expected a number between 0 and 1")
    return [*lines, *_odd_sizes(config), *_odd_rotary(config)]


def architecture(config: dict[str, Any]) -> Architecture:
    """What a config.json without faults says."""
    return Architecture(
        activation=ACTIVATIONS[config.get("hidden_act", "gelu")],
        **{ours: _rotary(config, ours)[0] for ours in ROTARY},
        epsilon=float(config.get("layer_norm_eps", 1e-5)),
        parallel_residual=config.get("use_parallel_residual", True),
    )


def unlike(config: dict[str, Any], wanted: Architecture) -> list[str]:
    """Sentences on what a config.json without faults says otherwise; either form of GELU passes."""
    told = architecture(config)
    return [
        f"{key} is {getattr(told, ours)!r}, expected {getattr(wanted, ours)!r}"
        for ours, key in KEYS.items()
        if getattr(told, ours) != getattr(wanted, ours)
    ]


def otherwise(held: dict[str, Any], written: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    """Sentences on what a file says otherwise than the one conversion writes, rotary keys aside, which `faults` and
    `unlike` compare in every spelling. `defaults` are the loader's, of keys that a version of it did not write."""
    said = [(SPELLED.get(key, key), value) for key, value in held.items()]
    said += [(key, defaults.get(key)) for key in sorted(written.keys() - {key for key, _ in said})]
    return [
        f"{key} is {shown(value)}, conversion writes {shown(wanted)}"
        for key, value in said
        if key not in APART and value != (wanted := written.get(key, defaults.get(key)))
    ]


def checked(config: Any, where: str) -> Architecture:
    """`architecture`; raises UserError, naming `where`, with every fault."""
    if lines := faults(config):
        raise UserError(f"{where}: not a GPT-NeoX that is computed here\n  " + "\n  ".join(lines))
    return architecture(config)


def _odd_sizes(config: dict[str, Any]) -> list[str]:
    lines = []
    for key in SIZES:
        if key not in config:
            lines.append(f"the key {key} is missing")
        elif type(config[key]) is not int or config[key] < 1:
            lines.append(f"{key} is {shown(config[key])}, expected a whole number from 1 on")
    if lines:
        return lines
    width, heads = config["hidden_size"], config["num_attention_heads"]
    if width % heads:
        return [f"{heads} heads don't divide the width {width}"]
    if (head := config.get("head_dim")) not in (None, width // heads):
        return [f"head_dim is {shown(head)}, expected {width // heads}: so many dimensions of a head would be rotated"]
    return []


def _odd_rotary(config: dict[str, Any]) -> list[str]:
    given = {key: config[key] for key in ROPE if config.get(key)}
    for key, held in given.items():
        if not isinstance(held, dict):
            return [f"{key} is {shown(held)}, expected keys and values"]
        scaled = any(held.get(name, "default") != "default" for name in ("rope_type", "type"))
        if scaled or set(held) - {"rope_type", "type", *(new for new, _, _ in ROTARY.values())}:
            return [f"{key} is {shown(held)}: rotary positions that are scaled are not computed here"]
    if len(given) == 2 and given[ROPE[0]] != given[ROPE[1]]:
        return [f"{' and '.join(ROPE)} are both there and differ"]
    lines = []
    for ours, (new, old, _) in ROTARY.items():
        values = _rotary(config, ours)
        most, allowed = (1.0, "above 0, up to 1") if ours == "rotary_fraction" else (math.inf, "above 0")
        if any(value != values[0] for value in values):
            lines.append(f"{new} and {old} say {', '.join(map(shown, values))}; expected one value")
        elif not 0 < (_number(values[0]) or 0) <= most:
            lines.append(f"{new} or {old} is {shown(values[0])}, expected a number {allowed}")
    return lines


def _rotary(config: dict[str, Any], ours: str) -> list[Any]:
    """All that is said of one number: first what Transformers takes, then what stands beside it."""
    new, old, default = ROTARY[ours]
    held: dict[str, Any] = next((config[key] for key in ROPE if config.get(key)), {})
    taken = next((place[key] for place, key in ((held, new), (config, old)) if place.get(key) is not None), default)
    beside = [config[key] for key in (new, old) if config.get(key) is not None]
    return [value if (number := _number(value)) is None else number for value in (taken, *beside)]


def _number(value: Any) -> float | None:
    """A finite number as a float; None for anything else."""
    try:
        return float(value) if type(value) in (int, float) and math.isfinite(value) else None
    except OverflowError:  # a whole number beyond the largest float
        return None
