"""`make bench`: the numbers of docs/performance.md, measured side by side on this machine.

python -m tests.benchmarks.run                 all but the GPU's, Slurm's and the whole study (a quarter of an hour)
python -m tests.benchmarks.run --only train    one part
python -m tests.benchmarks.run --only gpu ...  Pythia's sizes on a GPU (its options: --only gpu --help)
python -m tests.benchmarks.run --only slurm    the smoke study through a real Slurm (root, Debian; minutes)
python -m tests.benchmarks.run --study         also the default study from nothing in a scratch folder (minutes)
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

PARTS = {  # module of tests/benchmarks, whose measure() gives (what, measured); loaded when its turn comes
    "start": "starting",
    "graph": "graph",
    "train": "training",
    "save": "saving",
    "convert": "conversion",
    "tokenization": "tokenization",
    "join": "join",
    "view": "view",
    "audit": "audit",
    "index-maps": "index_maps",
    "evaluation": "evaluation",
    "memorization": "memorization",
    "slurm": "slurm",
    "study": "whole_study",
}
OWN = ("slurm", "study")  # run only when asked for


def measured(part: str) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = importlib.import_module(f"tests.benchmarks.{PARTS[part]}").measure()
    return rows


def main() -> None:
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--only")
    known, rest = first.parse_known_args()
    if known.only == "gpu":
        from tests.benchmarks import gpu

        gpu.main(rest)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", action="store_true", help="also run the default study from nothing")
    parser.add_argument("--only", choices=[*PARTS, "gpu"], help="one part")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()
    usual = [name for name in PARTS if name not in OWN or (name == "study" and arguments.study)]
    chosen = [arguments.only] if arguments.only else usual
    rows = [row for name in chosen for row in measured(name)]
    load = " ".join(f"{number:.1f}" for number in os.getloadavg())
    table = Table("what", "measured", caption=f"load average at the end, over 1, 5 and 15 minutes: {load}")
    for what, found in rows:
        table.add_row(what, found)
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(dict(rows), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
