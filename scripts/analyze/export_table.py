"""Gather the numbers of exported files: results/tables/export.csv, and with what was measured export_memory.csv."""

from __future__ import annotations

import csv
import io
from typing import Any

from scripts.analyze.sources import require
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_text
from scripts.study import paths
from scripts.study.study import Study, load

SCORES = ["bytes", "parameters", "bits_per_weight", "tokens", "perplexity", "float_perplexity", "perplexity_ratio",
          "top1_agreement", "logit_difference"]  # fmt: skip
MEASURED = ["before_mib", "loaded_mib", "generated_mib", "load_seconds", "prompt_tokens_per_second",
            "generated_tokens_per_second"]  # fmt: skip
IDENTITY = ["run", "size", "non_embedding", "corpus", "init_seed", "data_seed", "intervention", "step", "quantization"]

COLUMNS = [*IDENTITY, *SCORES, *MEASURED]


def rows(study: Study) -> list[dict[str, Any]]:
    """A row per run, step and quantization, in the study's order; raises UserError naming a missing or other file."""
    asked = [(name, step) for name in study.runs for step in study.export_steps(name)]
    require(path(name, step) for name, step in asked for path in (paths.measurement, paths.record))
    found = []
    for name, step in asked:
        spec, result = study.run(name), read_json(paths.measurement(name, step))
        measured = read_json(paths.record(name, step))["files"]
        if (result["run"], result["step"]) != (name, step) or set(measured) != set(result["files"]):
            raise UserError(f"{paths.measurement(name, step)}: does not belong to {name} step {step} and its record; "
                            "measure it again")  # fmt: skip
        identity = {
            "run": name, "size": spec.size.name, "non_embedding": spec.size.non_embedding_parameters,
            "corpus": spec.corpus, "init_seed": spec.init_seed, "data_seed": spec.data_seed,
            "intervention": spec.origin.intervention if spec.origin else "", "step": step,
        }  # fmt: skip
        shared = {key: result[key] for key in ("tokens", "float_perplexity")}
        for quantization in result["settings"]["quantizations"]:
            own = {**result["files"][quantization], **measured[quantization]}
            found.append({**identity, "quantization": quantization, **shared, **own})
    return found


def text(columns: list[str], found: list[dict[str, Any]]) -> str:
    """A CSV of these columns."""
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(found)
    return table.getvalue()


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    found = rows(load(parser.parse_args().study))
    repeatable, measured = paths.table("export"), paths.EXPORT_MEMORY
    write_text(repeatable, text([*IDENTITY, *SCORES], found))
    write_text(measured, text(COLUMNS, found))
    print(f"{len(found)} files")
