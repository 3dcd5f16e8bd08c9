"""Numbers of exported files as scripts.export.measure leaves them."""

from __future__ import annotations

from scripts.common.files import write_json
from scripts.study.paths import measurement, record
from scripts.study.study import Study

SCORES = {
    "bytes": 500, "parameters": 100, "bits_per_weight": 32.0, "perplexity": 10.0, "perplexity_ratio": 1.0,
    "top1_agreement": 0.5, "logit_difference": 0.0, "kept_f16": [], "sha256": "0",
}  # fmt: skip
SPEED = {
    "before_mib": 40.0, "loaded_mib": 50.0, "generated_mib": 51.0, "load_seconds": 0.1, "prompt_tokens": 9,
    "prompt_tokens_per_second": 100.0, "generated_tokens": 9, "generated_tokens_per_second": 1234.0,
}  # fmt: skip


def write_numbers(study: Study) -> None:
    """The two files of every exported step, in the working directory."""
    settings = study.gguf_settings()
    for name in study.runs:
        for step in study.export_steps(name):
            files = dict.fromkeys(reversed(settings["quantizations"]), SCORES)
            result = {"run": name, "step": step, "tokens": 64, "float_perplexity": 10.0, "settings": settings}
            write_json(measurement(name, step), {**result, "files": files})
            write_json(record(name, step), {"files": dict.fromkeys(settings["quantizations"], SPEED)})
