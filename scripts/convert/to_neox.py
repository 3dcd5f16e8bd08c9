"""Convert a Transformers GPT-NeoX model to a native NeoX checkpoint, so that training can go on from it.

Writes <to>/global_step<N>/ with layer files (or, with --sequential, one file a rank as Pythia's 14m and 31m) and
<to>/latest. Weights only; with --fresh-optimizer also an Adam that has not stepped, which `interventions` of a study
take over.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.common.command import Parser
from scripts.common.errors import UserError, explain
from scripts.common.files import write_text
from scripts.convert.model_folder import swapped_in
from scripts.study import paths
from scripts.study.catalogue import padded_vocabulary


def convert(given: argparse.Namespace) -> str:
    """Write the checkpoint; what was done, in a sentence. Raises UserError for a model that can't be one."""
    from dataclasses import replace

    from scripts.neox import hf_files
    from scripts.neox import writer as neox_write
    from scripts.neox.architecture import is_buffer

    config = hf_files.config_of(given.model)
    if lines := hf_files.contradictions(config, {}):
        raise UserError(f"{given.model / 'config.json'}: not a model that NeoX trained\n  " + "\n  ".join(lines))
    shape, state = hf_files.shape_of(config), hf_files.read_state(given.model)
    hf_files.check_shapes(state, shape, str(given.model))
    dtype = hf_files.dtype_of({name: held for name, held in state.items() if not is_buffer(name)})
    layers = neox_write.from_transformers(state, shape.layers)
    vocabulary = padded_vocabulary(shape.padded_vocabulary, given.tensor_parallel)
    with swapped_in(given.to / paths.global_step(given.step)) as draft:
        neox_write.write(
            draft,
            neox_write.padded(layers, given.tensor_parallel),
            replace(shape, padded_vocabulary=vocabulary),
            step=given.step,
            tensor_parallel=given.tensor_parallel,
            sequential=given.sequential,
            later_names=given.later_names,
            fresh_optimizer=given.fresh_optimizer,
        )
    write_text(given.to / "latest", paths.global_step(given.step))
    rows = vocabulary - shape.padded_vocabulary
    return (
        f"{given.to / paths.global_step(given.step)}: {dtype}, {given.tensor_parallel} tensor-parallel shards, "
        f"vocabulary {vocabulary}" + (f", {rows} rows of zeros among them" if rows else "")
    )


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model, e.g. models/<run>/step<N>")
    parser.add_argument("--to", type=Path, required=True, help="folder that will hold global_step<N>/")
    parser.add_argument("--step", type=int, required=True, help="updates the model was trained for")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="shards (default: 1)")
    parser.add_argument("--sequential", action="store_true", help="the layout of pipe-parallel-size 0")
    parser.add_argument("--later-names", action="store_true", help="linear1, linear2 as gpt-neox after 2.0")
    parser.add_argument("--fresh-optimizer", action="store_true", help="also an optimizer that has not stepped")
    given = parser.parse_args()
    if given.tensor_parallel < 1:
        raise UserError(explain("--tensor-parallel", given.tensor_parallel, "1 or more", "--tensor-parallel 1"))
    if (target := given.to / paths.global_step(given.step)).exists():
        raise UserError(f"{target}: exists\n  write:   another --to, or remove it")
    print(convert(given))
