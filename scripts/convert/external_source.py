"""Where published models come from: a folder of revisions, or a repository of the hub.

A source is looked at before anything is taken of it: which steps are missing, and what hashes their files have.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from scripts.common.errors import UserError, connection_told
from scripts.common.files import digest_of, read_json, sha256_file
from scripts.convert.publish.local import git_sha1
from scripts.convert.publish.revisions import File, place
from scripts.convert.tokenizer_files import FILES as TOKENIZER_FILES
from scripts.neox import hf_files
from scripts.study.config.external import ExternalRun

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SMALL = ("config.json", "generation_config.json", *TOKENIZER_FILES)
SMALL_BYTES = 50 << 20  # a tokenizer.json of 200,000 tokens has 20 MB


@dataclass(frozen=True)
class Listed:
    """A step as its source lists it: sha256 of every file of its weights, and the hub's commit.

    `tensors` is a digest of the numbers alone, where files hold more: a native model file names its step.
    """

    weights: dict[str, str]
    commit: str | None = None
    tensors: str | None = None

    @property
    def digest(self) -> str:
        """One digest of the weights; an index says nothing of them."""
        files = [sha256 for name, sha256 in self.weights.items() if not name.endswith(".json")]
        return self.tensors or digest_of(sorted(files))


class Source(Protocol):
    """A folder or a repository."""

    def listed(self, steps: list[int]) -> tuple[dict[int, Listed], list[str]]:
        """What it has of these steps, and a sentence on each that is missing or not whole."""

    def take(self, step: int, listed: Listed, draft: Path) -> None:
        """Put a step's files into an empty folder, each held against its hash."""


class FolderSource:
    """A folder with a folder per revision, of Transformers models."""

    def __init__(self, wanted: ExternalRun) -> None:
        self.wanted = wanted

    def of(self, step: int) -> Path:
        """A step's folder."""
        return Path(self.wanted.folder or "") / self.wanted.revision_of(step)

    def listed(self, steps: list[int]) -> tuple[dict[int, Listed], list[str]]:
        """Hashes of the files as they lie there."""
        found, problems = {}, []
        for step in steps:
            try:
                if not self.of(step).is_dir():
                    raise UserError(f"no folder {self.of(step)}")
                found[step] = Listed({path.name: sha256_file(path) for path in hf_files.weight_files(self.of(step))})
            except UserError as error:
                problems.append(f"step {step}: {error}")
        return found, problems

    def take(self, step: int, listed: Listed, draft: Path) -> None:
        """Hard links to the weights, or copies on another disk."""
        for name, sha256 in listed.weights.items():
            path = self.of(step) / name
            place(File(path, sha256, path.stat().st_size), draft / name)
        for name in SMALL:
            if (path := self.of(step) / name).is_file():
                shutil.copyfile(path, draft / name)


class HubSource:
    """A repository of the hub with a branch a step; downloads lie in `staging` until they are whole."""

    def __init__(self, wanted: ExternalRun, staging: Path, api: HfApi) -> None:
        assert wanted.repo is not None
        self.wanted, self.repo, self.staging, self.api = wanted, wanted.repo, staging, api

    def listed(self, steps: list[int]) -> tuple[dict[int, Listed], list[str]]:
        """Hashes as the hub lists them, at the commits that the branches point to now."""
        from huggingface_hub.hf_api import RepoFile

        branches = {branch.name: branch.target_commit for branch in self.api.list_repo_refs(self.repo).branches}
        found, problems = {}, []
        for step in steps:
            revision = self.wanted.revision_of(step)
            if revision not in branches:
                problems.append(f"step {step}: {self.repo} has no branch {revision}")
                continue
            commit = branches[revision]
            files = [file for file in self.api.list_repo_tree(self.repo, revision=commit) if isinstance(file, RepoFile)]
            hashes = {file.path: file.lfs.sha256 if file.lfs else "" for file in files}
            try:
                names = self._weights(hashes, commit, step)
                found[step] = Listed({name: hashes[name] for name in names}, commit)
            except UserError as error:
                problems.append(f"step {step}: {error}")
        return found, problems

    def _weights(self, hashes: dict[str, str], commit: str, step: int) -> list[str]:
        first = next((name for name in hf_files.WEIGHTS if name in hashes), None)
        if first is None:
            raise UserError(f"{self.repo} at {commit} has none of {', '.join(hf_files.WEIGHTS)}")
        if not first.endswith(".index.json"):
            return [first]
        index = self._download(step, commit, [first]) / first
        shards = hf_files.shard_names(index, read_json(index))
        if missing := [name for name in shards if name not in hashes]:
            raise UserError(f"{self.repo} at {commit} lacks {', '.join(missing)}, which {first} names")
        return [first, *shards]

    def _download(self, step: int, commit: str, names: list[str]) -> Path:
        from huggingface_hub import snapshot_download

        folder = self.staging / f"step{step}"
        with connection_told():
            snapshot_download(
                self.repo, revision=commit, allow_patterns=names, local_dir=folder, endpoint=self.api.endpoint
            )
        return folder

    def take(self, step: int, listed: Listed, draft: Path) -> None:
        """Download and hash; a file that came out different is dropped, so that the next try fetches it anew."""
        assert listed.commit is not None
        folder = self._download(step, listed.commit, [*listed.weights, *SMALL])
        sizes = {file.path: file for file in self.api.list_repo_tree(self.repo, revision=listed.commit)}
        for name in (*listed.weights, *SMALL):
            path, remote = folder / name, sizes.get(name)
            if remote is None:
                continue
            lfs = getattr(remote, "lfs", None)
            whole = sha256_file(path) == lfs.sha256 if lfs else git_sha1(path) == getattr(remote, "blob_id", None)
            if not whole:
                path.unlink()
                raise UserError(
                    f"{self.repo} at {listed.commit}: {name} came out different from its hash; run it again"
                )
            shutil.move(path, draft / name)
        shutil.rmtree(folder)


def source_of(wanted: ExternalRun, staging: Path) -> FolderSource | HubSource:
    """The source that a published run names."""
    if wanted.folder is not None:
        return FolderSource(wanted)
    from huggingface_hub import HfApi

    return HubSource(wanted, staging, HfApi())
