"""Write saved steps of a run as GGUF files, one a quantization: exports/<run>/step<N>/<quantization>.gguf."""

from __future__ import annotations

import time
from pathlib import Path

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import atomic
from scripts.common.progress import progress
from scripts.study import fingerprints, paths
from scripts.study.study import Study, load


def export(study: Study, name: str, step: int) -> None:
    """Write a step's files and, last, their manifest; raises UserError if the model folder is not whole or not ours."""
    from scripts.export.gguf_file import write_gguf
    from scripts.export.source import open_model
    from scripts.export.vocabulary import read_vocabulary

    started = time.time()
    folder = paths.model(name, step)
    checked = manifest.verify(folder / manifest.NAME, "model")
    fingerprints.require(study, folder / manifest.NAME)
    if checked["subject"] != {"run": name, "step": step}:
        raise UserError(f"{folder}: its manifest is of {checked['subject']}, not of {name} step {step}")
    source = open_model(folder)
    vocabulary = read_vocabulary(folder, source.shape.vocabulary)
    settings = study.gguf_settings()
    files, facts = [], {}
    for quantization in settings["quantizations"]:
        path = paths.gguf(name, step, quantization)
        with atomic(path) as draft:
            written = write_gguf(draft, source, vocabulary, quantization, f"{name} step{step}")
        files.append(path)
        facts[quantization] = written.facts
    for path in set(files[0].parent.glob("*.gguf")) - set(files):
        path.unlink()  # of a quantization that is no longer asked for
    manifest.write(
        files[0].parent / manifest.NAME,
        kind="gguf",
        subject={"run": name, "step": step},
        settings=settings,
        files=files,
        parents=[folder / manifest.NAME],
        facts=facts,
        started=started,
    )


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--steps", type=int, nargs="+", required=True, help="saved steps to export")
    arguments = parser.parse_args()
    study = load(arguments.study)
    study.check_steps(arguments.run, arguments.steps)
    if study.file.export is None:
        raise UserError(f"{arguments.study}: has no key `export`, which names the quantizations (docs/export.md)")
    with progress(f"gguf {arguments.run}", len(arguments.steps), "checkpoints") as tell:
        for done, step in enumerate(arguments.steps, start=1):
            export(study, arguments.run, step)
            tell(done)
