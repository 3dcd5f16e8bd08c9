"""Publication on the hub: a branch a step, each made in one commit, and verified by hash after it was uploaded.

What is whole on the hub already is left alone, so that a publication that was cut off goes on when it is run again.
The token is huggingface_hub's own (`hf auth login`, or HF_TOKEN).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scripts.common.errors import UserError
from scripts.common.progress import progress
from scripts.convert.publish.local import git_sha1
from scripts.convert.publish.revisions import MAIN, File, Revision, refuse_changes

if TYPE_CHECKING:
    from huggingface_hub import HfApi

KEPT = (".gitattributes",)  # the hub's own


@dataclass(frozen=True)
class Remote:
    """A file on the hub; `sha256` of large files, git's sha1 of small ones."""

    bytes: int
    sha256: str | None
    sha1: str


def listed(api: HfApi, repo: str, revision: str) -> dict[str, Remote]:
    """Every file of a revision on the hub."""
    from huggingface_hub.hf_api import RepoFile

    return {
        file.path: Remote(file.size, file.lfs.sha256 if file.lfs else None, file.blob_id)
        for file in api.list_repo_tree(repo, recursive=True, revision=revision)
        if isinstance(file, RepoFile) and file.path not in KEPT
    }


def same(file: File, remote: Remote | None) -> bool:
    """Whether the hub's file is ours, by the hash it has of it."""
    if remote is None or remote.bytes != file.bytes:
        return False
    return remote.sha256 == file.sha256 if remote.sha256 else remote.sha1 == git_sha1(file.path)


def differing(revision: Revision, there: dict[str, Remote]) -> list[str]:
    """Names of files that are missing, others, or too many on the hub."""
    wrong = [name for name, file in revision.files.items() if not same(file, there.get(name))]
    return wrong + [name for name in there if name not in revision.files]


def to_hub(api: HfApi, repo: str, wanted: dict[str, Revision], replace: bool, private: bool) -> str:
    """Create the repository and its branches, upload what is not there, verify; `main` comes last.

    Raises UserError for a revision that holds other files, unless `replace`, and for a file that is not, after the
    upload, what was uploaded.
    """
    api.create_repo(repo, private=private, exist_ok=True)
    branches = {branch.name for branch in api.list_repo_refs(repo).branches}
    there = {name: listed(api, repo, name) for name in wanted if name in branches}
    # a branch without files was cut off between its making and its commit
    refuse_changes(repo, [name for name, files in there.items() if files and differing(wanted[name], files)], replace)
    root = api.list_repo_commits(repo, revision=MAIN)[-1].commit_id if MAIN in branches else None
    order = [*(name for name in wanted if name != MAIN), *(name for name in wanted if name == MAIN)]
    with progress(f"publish {repo}", len(order), "revisions") as tell:
        for done, name in enumerate(order, start=1):
            if name not in branches and name != MAIN:
                api.create_branch(repo, branch=name, revision=root, exist_ok=True)
            upload(api, repo, name, wanted[name], there.get(name, {}))
            tell(done)
    return f"{api.endpoint}/{repo}"


def upload(api: HfApi, repo: str, name: str, revision: Revision, there: dict[str, Remote]) -> None:
    """Bring one branch to our files in one commit, then hold the hub's hashes against ours."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    changes: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path, str(file.path))
        for path, file in revision.files.items()
        if not same(file, there.get(path))
    ]
    changes += [CommitOperationDelete(path) for path in there if path not in revision.files]
    if changes:
        api.create_commit(repo, changes, commit_message=f"Step {revision.step}", revision=name)
    if wrong := differing(revision, listed(api, repo, name)):
        raise UserError(
            f"{repo}, {name}: after the upload the hub holds something else under {', '.join(wrong)}; "
            "run it again to upload them anew"
        )
