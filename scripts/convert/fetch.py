"""Take steps of a published run into models/<run>/step<N>/: from the hub, or from folders of models or native files.

Before anything is taken, all steps asked for are looked at: missing ones, configurations that are not the catalogue's
size, and steps that hold the same weights (but for 0 and 1, as Pythia's) end the job with a list.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError, explain, near
from scripts.common.files import sha256_file, write_json
from scripts.common.progress import progress
from scripts.convert.convert import check_tokens, origin
from scripts.convert.external_source import Listed, source_of
from scripts.convert.model_folder import ORIGIN, content_files, swapped_in
from scripts.convert.publish.revisions import duplicates
from scripts.convert.tokenizer_files import FILES, copy_files, prove_same_ids
from scripts.neox import hf_files
from scripts.study import fingerprints, paths
from scripts.study.manifests import ModelFacts, ModelSource, TokenizerFacts
from scripts.study.study import Study, load

KNOWN = {1: "Pythia's first step has learning rate 0"}  # steps that may equal the one before


class Fetcher:
    """The steps of one published run, from its source to model folders."""

    def __init__(self, study: Study, name: str) -> None:
        self.study, self.name, self.spec = study, name, study.run(name)
        if self.spec.external is None:
            known = list(study.external)
            raise UserError(explain("--run", name, ", ".join(known) or "none is published", near(name, known)))
        self.wanted = self.spec.external
        self.tokens = manifest.verify(paths.TOKENIZER, TokenizerFacts).facts.vocabulary
        fingerprints.require(study, paths.TOKENIZER)
        if self.spec.corpus in study.file.data.corpora:
            check_tokens(self.spec.corpus, self.tokens)
        self.proven: dict[str, int] = {}  # texts compared, by the sha256 of a tokenizer.json

    def fetch(self, steps: list[int]) -> None:
        """Every step with its manifest; raises one UserError that lists what is wrong with any of them."""
        fetch_step = self._fetch_native if self.wanted.weights == "neox" else self._fetch_model
        if self.wanted.weights == "neox":
            listed, problems = self._listed_native(steps)
            source = None
        else:
            source = source_of(self.wanted, paths.models(self.name) / ".fetched")
            listed, problems = source.listed(steps)
        self._refuse([*problems, *self._duplicated({step: found.digest for step, found in listed.items()})])
        problems = []
        with progress(f"fetch {self.name}", len(steps), "checkpoints") as tell:
            for done, step in enumerate(steps, start=1):
                try:
                    fetch_step(step, listed[step], source)
                except UserError as error:
                    problems.append(f"step {step}: {error}")
                tell(done)
        try:
            self._refuse([*problems, *self._duplicated({})])
        except UserError:
            for step in steps:  # a job that ran beside may have taken the same weights for another step
                (paths.model(self.name, step) / manifest.NAME).unlink(missing_ok=True)
            raise

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            where = self.wanted.repo or self.wanted.folder
            raise UserError(f"external.{self.name}, from {where}:\n  " + "\n  ".join(problems))

    def _duplicated(self, found: dict[int, str]) -> list[str]:
        """Sentences on steps with equal weights, among these and those that were fetched before."""
        before = {step: weights for step in self.wanted.steps if (weights := self._weights(step))}
        return duplicates({**before, **found}, KNOWN if self.wanted.steps[:2] == [0, 1] else {}, self.name)

    def _weights(self, step: int) -> str | None:
        """The digest of a step's weights, if it was fetched."""
        folder = paths.model(self.name, step)
        if not (folder / manifest.NAME).exists():
            return None
        source = manifest.read(folder, ModelFacts).facts.source
        return source.weights if source else None

    # --- Transformers models ------------------------------------------------------------------

    def _fetch_model(self, step: int, listed: Listed, source: Any) -> None:
        started, target, texts = time.time(), paths.model(self.name, step), None
        with swapped_in(target) as draft:
            source.take(step, listed, draft)
            self._check(draft)
            if (draft / "tokenizer.json").exists():
                texts = self._prove_tokenizer(draft)
            copy_files(paths.TOKENIZER, draft)
            _as_safetensors(draft)
            self._describe(draft, step, listed)
        self._write_manifest(target, step, listed, started, ModelFacts(tokenizer_texts=texts))

    def _check(self, draft: Path) -> None:
        """Refuse a model that is not the size the study says."""
        config = hf_files.config_of(draft)
        if lines := hf_files.unlike_run(config, self.study, self.name):
            raise UserError(f"config.json is not that of size {self.spec.size.name}: {'; '.join(lines)}")
        hf_files.check_shapes(hf_files.read_state(draft), hf_files.shape_of(config), "its weights")

    def _prove_tokenizer(self, draft: Path) -> int:
        """Hold the model's own tokenizer against the study's, which takes its place."""
        sha256 = sha256_file(draft / "tokenizer.json")
        if sha256 not in self.proven:
            self.proven[sha256] = prove_same_ids(draft, paths.VOCABULARY)
        return self.proven[sha256]

    # --- native checkpoints -------------------------------------------------------------------

    def _native_folder(self, step: int) -> Path:
        return Path(self.wanted.folder or "") / self.wanted.revision_of(step)

    def _listed_native(self, steps: list[int]) -> tuple[dict[int, Listed], list[str]]:
        """Every step read whole, for a digest of its tensors and for what is missing of it."""
        from scripts.convert.from_neox import files_read
        from scripts.neox.tensor_parallel import digest_of_tensors
        from scripts.neox.weights import read_layers

        found, problems = {}, []
        for step in steps:
            folder = self._native_folder(step)
            try:
                layers = read_layers(folder, self.spec.size.layers)
                found[step] = Listed(files_read(folder), tensors=digest_of_tensors(layers))
            except UserError as error:
                problems.append(f"step {step}: {error}")
        return found, problems

    def _fetch_native(self, step: int, listed: Listed, _: Any) -> None:
        from scripts.convert.from_neox import Native, write
        from scripts.neox.optimizer import read_progress

        started, target, folder = time.time(), paths.model(self.name, step), self._native_folder(step)
        native = Native(folder, [], self.spec.size, self.spec.training.sequence_length)
        told, vocabulary = read_progress(folder).iteration, self.study.padded_vocabulary(self.name)
        if told not in (None, step):
            raise UserError(f"{folder}: holds step {told}")
        if native.shape.padded_vocabulary != vocabulary:
            raise UserError(f"{folder}: has {native.shape.padded_vocabulary} rows of embedding, expected {vocabulary}")
        with swapped_in(target) as draft:
            parity = write(native, draft, native.dtype, self.tokens)
            copy_files(paths.TOKENIZER, draft)
            self._describe(draft, step, listed)
        self._write_manifest(target, step, listed, started, ModelFacts(**vars(parity)))

    # --- both ---------------------------------------------------------------------------------

    def _describe(self, draft: Path, step: int, listed: Listed) -> None:
        told = origin(self.study, self.name, step)
        write_json(draft / ORIGIN, {**told, "source": asdict(self._source(step, listed))})

    def _source(self, step: int, listed: Listed) -> ModelSource:
        return ModelSource(
            repo=self.wanted.repo,
            folder=self.wanted.folder,
            revision=self.wanted.revision_of(step),
            commit=listed.commit,
            files=listed.weights,
            weights=listed.digest,
        )

    def _write_manifest(self, target: Path, step: int, listed: Listed, started: float, facts: ModelFacts) -> None:
        equal = step == 1 and self._weights(0) == listed.digest
        files = content_files(target)
        theirs = {path: sha256_file(path) for path in files if path.name not in (*FILES, ORIGIN)}
        manifest.write(
            target,
            replace(
                facts,
                source=self._source(step, listed),
                unchanged=KNOWN[1] if equal else None,
                fetched={path.name: sha256 for path, sha256 in theirs.items()},
            ),
            subject={"run": self.name, "step": step},
            settings=self.study.external_settings(self.name),
            files=files,
            parents=[paths.TOKENIZER],
            started=started,
            known=theirs,
        )


def _as_safetensors(folder: Path) -> None:
    """Replace pickled weights by safetensors, which execute nothing when a user loads them."""
    from safetensors.torch import save_file

    files = hf_files.weight_files(folder)
    if files[0].suffix == ".safetensors" or ".safetensors." in files[0].name:
        return
    state = {name: tensor.contiguous() for name, tensor in hf_files.read_state(folder).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    for path in files:
        path.unlink()


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    parser.add_argument("--run", required=True, help="name of a run under `external`")
    parser.add_argument("--steps", type=int, nargs="+", required=True, help="steps to take")
    given = parser.parse_args()
    study = load(given.study)
    study.check_steps(given.run, given.steps)
    fetch(study, given.run, given.steps)


def fetch(study: Study, name: str, steps: list[int]) -> None:
    """`Fetcher.fetch`, with what the network does told as a sentence."""
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled

    fetcher = Fetcher(study, name)
    try:
        fetcher.fetch(steps)
    except (HTTPError, HFValidationError, OfflineModeIsEnabled, ConnectionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"external.{name}: {fetcher.wanted.repo} could not be downloaded\n  because: {reason}\n"
            "  run it again where the hub is reached, what is there is kept; or download it and write: folder: .."
        ) from None
