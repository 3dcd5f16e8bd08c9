"""Write saved steps of a run as GGUF files, one a quantization: exports/<run>/step<N>/<quantization>.gguf."""

from __future__ import annotations

import time

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import atomic
from scripts.common.progress import progress
from scripts.study import fingerprints, paths
from scripts.study.manifests import GgufFacts, ModelFacts
from scripts.study.study import Study, load


def export(study: Study, name: str, step: int) -> None:
    """Write a step's files and, last, their manifest; raises UserError if the model folder is not whole or not ours."""
    from scripts.export.gguf_file import read_vocabulary, write_gguf
    from scripts.export.source import open_model

    started = time.time()
    folder = paths.model(name, step)
    subject = {"run": name, "step": step}
    manifest.verify(folder, ModelFacts, subject)
    fingerprints.require(study, folder)
    source = open_model(folder)
    vocabulary = read_vocabulary(folder, source.shape.vocabulary)
    settings = study.gguf_settings()
    files, made = [], {}
    for quantization in settings["quantizations"]:
        path = paths.gguf(name, step, quantization)
        with atomic(path) as draft:
            made[quantization] = write_gguf(draft, source, vocabulary, quantization, f"{name} step{step}")
        files.append(path)
    for path in set(files[0].parent.glob("*.gguf")) - set(files):
        path.unlink()  # of a quantization that is no longer asked for
    manifest.write(
        files[0].parent,
        GgufFacts(made),
        subject=subject,
        settings=settings,
        files=files,
        parents=[folder],
        started=started,
    )


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run", "steps")
    arguments = parser.parse_args()
    study = load(arguments.study)
    study.check_steps(arguments.run, arguments.steps)
    if study.file.export is None:
        raise UserError(f"{arguments.study}: has no key `export`, which names the quantizations (docs/export.md)")
    with progress(f"gguf {arguments.run}", len(arguments.steps), "checkpoints") as tell:
        for done, step in enumerate(arguments.steps, start=1):
            export(study, arguments.run, step)
            tell(done)
