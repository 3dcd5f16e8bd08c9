"""The first page's section on memory: the study's GGUF files, beside what others measured on the published sizes."""

from __future__ import annotations

import csv
from typing import Any

from scripts.analyze.sources import require
from scripts.common.units import bytes_short
from scripts.report.made import thousands
from scripts.study import paths
from scripts.study.catalogue import CATALOGUE, padded_vocabulary
from scripts.study.stages import GGUF
from scripts.study.study import Study

COLUMNS = (
    ("run", False), ("step", True), ("file", False), ("size", True), ("bits per weight", True),
    ("MiB loaded", True), ("MiB after generating", True), ("tokens/s", True), ("perplexity", True),
    ("ratio to float", True), ("same first choice", True),
)  # fmt: skip
# Crataco/Pythia-Deduped-Series-GGML on the Hugging Face hub, its table for KoboldCpp with OpenBLAS, as excerpted there:
# resident memory after loading and after generating; 41.3 MiB with no model. "GiB" figures are given to two digits.
COMMUNITY = {  # size: (q4_0, q5_1)
    "70m": ("113.3 / 267.8 MiB", "121.5 / 129.4 MiB"),
    "160m": ("199.4 / 201.6 MiB", "227.5 / 241.0 MiB"),
    "410m": ("399.2 / 406.2 MiB", "455.7 / 460.3 MiB"),
    "1b": ("803.0 / 809.0 MiB", "921.5 / 927.3 MiB"),
    "1.4b": ("1.1 GiB", "1.3 GiB"),
    "2.8b": ("2.0 GiB", "2.4 GiB"),
}
PYTHIA_VOCABULARY = 50277
REAL_COLUMNS = (
    ("size", False), ("f16", True), ("q8_0", True), ("q5_1", True), ("q5_1, memory elsewhere", True), ("q4_0", True),
    ("q4_0, memory elsewhere", True),
)  # fmt: skip


def section(study: Study) -> dict[str, Any] | None:
    """Columns and cells of both tables, or None if the study exports nothing."""
    if not GGUF.asked(study):
        return None
    require([paths.EXPORT_MEMORY], "scripts.analyze.export_table writes it")
    with paths.EXPORT_MEMORY.open(newline="", encoding="utf-8") as handle:
        found = list(csv.DictReader(handle))
    before = sorted(float(row["before_mib"]) for row in found)
    return {
        "columns": COLUMNS,
        "rows": [file_row(row) for row in found],
        "before": f"{before[len(before) // 2]:.0f}" if before else None,
        "real_columns": REAL_COLUMNS,
        "real_rows": [real_row(name) for name, size in CATALOGUE.items() if size.published_total],
    }


def file_row(row: dict[str, str]) -> list[str]:
    """Cells of one file, as `COLUMNS` names them."""
    return [
        row["run"], row["step"], row["quantization"], bytes_short(int(row["bytes"])),
        f"{float(row['bits_per_weight']):.2f}", f"{float(row['loaded_mib']):.1f}", f"{float(row['generated_mib']):.1f}",
        thousands(round(float(row["generated_tokens_per_second"]))), f"{float(row['perplexity']):.3f}",
        f"{float(row['perplexity_ratio']):.4f}", f"{100 * float(row['top1_agreement']):.1f} %",
    ]  # fmt: skip


def real_row(name: str) -> list[str]:
    """Cells of a published size: bytes of the weights as export stores them, and what others measured."""
    q4, q5 = COMMUNITY.get(name, ("", ""))
    size = {kind: mebibytes(weight_bytes(name, kind)) for kind in ("f16", "q8_0", "q5_1", "q4_0")}
    return [name, size["f16"], size["q8_0"], size["q5_1"], q5, size["q4_0"], q4]


def weight_bytes(name: str, quantization: str) -> int:
    """Bytes of a published size's weights in a GGUF file of this quantization."""
    from scripts.export import source
    from scripts.export.gguf_file import kind_of, stored_bytes

    size = CATALOGUE[name]
    vocabulary = padded_vocabulary(PYTHIA_VOCABULARY, size.tensor_parallel)
    shape = source.Shape(
        layers=size.layers, width=size.width, heads=size.heads, inner=4 * size.width, vocabulary=vocabulary,
        context=2048, rotary=0, rope_base=10000, epsilon=1e-5, parallel_residual=True,
    )  # fmt: skip
    return sum(stored_bytes(kind_of(quantization, each), each) for each in shape.tensors().values())


def mebibytes(number: int) -> str:
    """121.5 MiB, 1.3 GiB, as the table beside it."""
    return f"{number / 2**20:.1f} MiB" if number < 2**30 else f"{number / 2**30:.1f} GiB"
