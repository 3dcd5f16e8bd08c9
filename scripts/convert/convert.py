"""Convert checkpoints of one run to Transformers models whose logits equal the trainer's."""

from __future__ import annotations

import time
from typing import Any

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.common.progress import progress
from scripts.convert.model_folder import ORIGIN, content_files, save, swapped_in
from scripts.convert.tokenizer_files import check_largest_token, copy_files, prove_same_ids
from scripts.neox.architecture import DTYPES
from scripts.study import fingerprints, paths, replayed
from scripts.study.manifests import CheckpointFacts, CorpusFacts, ModelFacts, StepsTaken, TokenizerFacts
from scripts.study.study import Study, load


class Converter:
    """Conversion of one run: models, probe and tokenizer are made once and serve every step."""

    def __init__(self, study: Study, name: str) -> None:
        import torch

        from scripts.neox.parity import Pair, Shape

        torch.set_num_threads(study.file.runtime.threads)
        self.study, self.name, self.spec, self.settings = study, name, study.run(name), study.train_settings(name)
        shape = Shape.of(self.settings["size"], self.spec.training.sequence_length)
        tokens = manifest.verify(paths.TOKENIZER, TokenizerFacts).facts.vocabulary
        fingerprints.require(study, paths.TOKENIZER)
        check_tokens(self.spec.corpus, tokens)
        self.pair = Pair(shape, DTYPES[self.spec.training.precision], tokens)
        self.texts: int | None = None

    def is_done(self, step: int) -> bool:
        """Whether the step's model and checkpoint are whole and the model is of it; it is then made to look new, or
        Snakemake would ask for it again."""
        path = paths.model(self.name, step) / manifest.NAME
        try:
            manifest.verify(path.parent, ModelFacts)
            manifest.verify(replayed.stored(self.name, step), CheckpointFacts)
        except UserError:
            return False
        if fingerprints.Artefacts(self.study).wrong(path.as_posix()):
            return False
        path.touch()
        return True

    def convert(self, step: int) -> None:
        """Write models/<run>/step<N>/ with its manifest last; raises UserError if it is not what was trained."""
        from scripts.neox.weights import read_layers

        started, subject = time.time(), {"run": self.name, "step": step}
        source = replayed.stored(self.name, step)
        checked = manifest.verify(source, CheckpointFacts, subject)
        fingerprints.require(self.study, source)
        parity = self.pair.prove(read_layers(source, self.settings["size"]["layers"]), str(source))
        target = paths.model(self.name, step)
        with swapped_in(target) as draft:
            save(self.pair.exported, draft)
            copy_files(paths.TOKENIZER, draft)
            if self.texts is None:  # the files are the same for every step
                self.texts = prove_same_ids(draft, paths.VOCABULARY)
            write_json(draft / ORIGIN, origin(self.study, self.name, step))
        manifest.write(
            target,
            ModelFacts(**vars(parity), tokenizer_texts=self.texts, unchanged=unchanged(checked.facts)),
            subject=subject,
            settings={"size": self.settings["size"], "precision": self.spec.training.precision},
            files=content_files(target),
            parents=[source, paths.TOKENIZER],
            started=started,
        )


def origin(study: Study, name: str, step: int) -> dict[str, Any]:
    """Content of castalia.json, which goes wherever a model goes."""
    run = study.run(name)
    told = {"run": name, "step": step, "corpus": run.corpus}
    return {**told, "init_seed": run.init_seed, "data_seed": run.data_seed}


def check_tokens(corpus: str, tokens: int) -> None:
    """Refuse a tokenizer with fewer ids than the corpus uses; a corpus that was deleted after training says nothing."""
    folder = paths.corpus(corpus)
    if (folder / manifest.NAME).exists():
        check_largest_token(manifest.read(folder, CorpusFacts).facts.largest_token, tokens, str(folder))


def unchanged(facts: StepsTaken) -> str | None:
    """Why a checkpoint's weights may equal those of the one before it, by its manifest; None if they must not."""
    if facts.steps_applied == 0:
        return "no step was applied since the checkpoint before"
    lowest, highest = facts.learning_rates or (None, None)
    return "every step since the checkpoint before had learning rate 0" if lowest == highest == 0 else None


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run", "steps")
    arguments = parser.parse_args()
    study = load(arguments.study)
    replayed.check_steps(study, arguments.run, arguments.steps)
    converter = Converter(study, arguments.run)
    with progress(f"convert {arguments.run}", len(arguments.steps), "checkpoints") as tell:
        for done, step in enumerate(arguments.steps, start=1):
            if not converter.is_done(step):
                converter.convert(step)
            tell(done)
