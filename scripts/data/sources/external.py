"""Find or download the published token files of a corpus: data/external/<corpus>/; and join them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError, connection_told, explain, near
from scripts.data.megatron.indexed import BLOCK, Tokens, bin_path, fixed_length, idx_path
from scripts.data.megatron.joined import Joined, Piece, check_pieces
from scripts.data.megatron.shards import Sharded, check, in_order, read_hashes, unsharded, with_hashes
from scripts.study import fingerprints, paths
from scripts.study.catalogue import padded_vocabulary
from scripts.study.config.data import External
from scripts.study.manifests import CorpusFacts, ExternalFacts, TextSize, TokenFile
from scripts.study.study import Study, load


def chosen(study: Study, corpus: str) -> External:
    """The `external` entry of a corpus; raises UserError for a corpus without one."""
    known = [name for name, text in study.file.data.corpora.items() if text.external]
    if corpus not in known:
        raise UserError(explain("corpus", corpus, ", ".join(known) or "no corpus is published", near(corpus, known)))
    published = study.file.data.corpora[corpus].external
    assert published is not None
    for key, name in (("shards", published.shards), ("index", published.index)):
        if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts:
            raise UserError(explain(f"data.corpora.{corpus}.external.{key}", name, "a name within the folder"))
    return published


def files_among(corpus: str, published: External, names: Sequence[str], where: str) -> tuple[list[str], str]:
    """(shards in order, index) among the names of a folder; raises UserError if they are not there."""
    key = f"data.corpora.{corpus}.external"
    depth = published.shards.count("/")  # as in a shell, * stays within a folder
    shards = [name for name in names if name.count("/") == depth and fnmatchcase(name, published.shards)]
    if not shards:
        raise UserError(f"{key}.shards: no file of {where} matches {published.shards!r}" + _some(names))
    if published.index not in names:
        raise UserError(f"{key}.index: {where} has no file {published.index!r}" + _some(names))
    return in_order(shards), published.index


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    return f"\n  there is: {shown}" + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else ""


def on_disk(corpus: str, published: External, folder: Path) -> list[Piece]:
    """Shards in order, then the index, in a folder."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder (data.corpora.{corpus}.external.folder)")
    beside = {PurePosixPath(name).parent for name in (published.shards, published.index)}
    found = [path for parent in beside for path in (folder / parent).glob("[!.]*") if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in found]
    shards, index = files_among(corpus, published, names, str(folder))
    return [Piece(folder / name, bytes=(folder / name).stat().st_size) for name in (*shards, index)]


def on_hub(corpus: str, published: External, folder: Path) -> list[Piece]:
    """Download the shards and the index; returns them with the hub's length and sha256 (none of small files).

    What is there of an earlier download is kept. Raises OSError or the hub's own errors if it can't be reached.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.hf_api import RepoFile

    assert published.repo is not None
    asked: dict[str, Any] = {"repo_id": published.repo, "repo_type": "dataset", "revision": published.revision}
    listed = {file.path: file for file in HfApi().list_repo_tree(recursive=True, **asked) if isinstance(file, RepoFile)}
    shards, index = files_among(corpus, published, list(listed), f"the hub's {published.repo}")
    files = [listed[name] for name in (*shards, index)]
    _check_room(folder, sum(file.size for file in files if not (folder / file.path).exists()))
    with connection_told():
        snapshot_download(allow_patterns=[file.path for file in files], local_dir=folder, **asked)
    return [Piece(folder / file.path, file.lfs.sha256 if file.lfs else None, file.size) for file in files]


def _check_room(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(folder).free) < needed:
        raise UserError(f"{folder}: {needed} bytes are to be downloaded, the disk has {free}; make room")


def downloaded(corpus: str, published: External) -> list[Piece]:
    """Files of the hub; if it can't be reached, those put into the folder by hand, if the study knows their hash."""
    from huggingface_hub.errors import HFValidationError, HTTPError

    folder = paths.external(corpus)
    try:
        return on_hub(corpus, published, folder)
    except (OSError, HTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    if published.hashes or published.sha256:
        try:
            return on_disk(corpus, published, folder)
        except UserError as error:
            reason += f"\n  and: {error}"
    raise UserError(
        f"corpus {corpus}: {published.repo} at {published.revision} could not be downloaded\n  because: {reason}\n"
        f"  put {published.shards} and {published.index} of it into {folder}/ and give `hashes` or `sha256` in\n"
        f"  data.corpora.{corpus}.external, so that they can be checked; or run this again where the hub is reached"
    )


def find(corpus: str, published: External) -> list[Piece]:
    """Shards in order, then the index, each with what is known of it; all of them are there."""
    pieces = on_disk(corpus, published, Path(published.folder)) if published.folder else downloaded(corpus, published)
    check_pieces(pieces, 1)
    if published.hashes is None:
        return pieces
    path = Path(published.hashes)
    hashes = read_hashes(path)
    index = pieces[-1] if pieces[-1].path.name not in hashes else with_hashes(pieces[-1:], hashes, str(path))[0]
    return [*with_hashes(pieces[:-1], hashes, str(path)), index]


def external_files(study: Study, corpus: str) -> Sharded:
    """The files that this command found, by its manifest; raises UserError if it is of other settings."""
    facts = manifest.read(paths.external(corpus), ExternalFacts).facts
    fingerprints.require(study, paths.external(corpus))
    *shards, index = (
        Piece(Path(facts.folder) / file.name, file.sha256, file.bytes) for file in (*facts.shards, facts.index)
    )
    return Sharded(shards, index, chosen(study, corpus).sha256)


def corpus_facts(corpus: str, tokens: Tokens, seen: Joined) -> CorpusFacts:
    """What the corpus's manifest says of it; a document is a sequence, as GPT-NeoX takes it."""
    blocks = (tokens.sizes[begin : begin + BLOCK] for begin in range(0, len(tokens), BLOCK))
    return CorpusFacts(
        documents=len(tokens),
        tokens=len(tokens.flat),
        documents_without_tokens=sum(len(block) - int(np.count_nonzero(block)) for block in blocks),
        end_of_document_tokens=seen.zeros,
        largest_token=seen.largest_token,
        components={corpus: TextSize(len(tokens), len(tokens.flat))},
        sequence_tokens=fixed_length(tokens),
    )


def from_external(study: Study, corpus: str) -> None:
    """Make data/<corpus>/ of the published files, every hash and every token checked."""
    started = time.time()
    sharded = external_files(study, corpus)
    prefix = paths.corpus(corpus) / "tokens"
    with unsharded(sharded, prefix, padded_vocabulary(study.file.data.tokenizer.vocabulary)) as placed:
        if not len(placed.tokens.flat):
            raise UserError(f"{sharded.index.path}: counts no tokens; corpus {corpus} would be empty")
        draft = placed.draft / prefix.name
        known = {bin_path(draft): placed.joined.sha256, idx_path(draft): placed.index_sha256}
        manifest.write(
            placed.draft,
            corpus_facts(corpus, placed.tokens, placed.joined),
            subject={"corpus": corpus},
            settings=study.corpus_settings(corpus),
            files=known,
            parents=[paths.external(corpus)],
            started=started,
            known=known,
        )
    seen = placed.joined
    print(f"{prefix.parent}: {len(placed.tokens)} documents, {len(placed.tokens.flat)} tokens, sha256 {seen.sha256}")


def main() -> None:
    parser = Parser(
        description="Find the published token files of a corpus: on disk, or downloaded from the hub into "
        "data/external/<corpus>/ (what is there of an earlier try is kept). `join` checks their hashes."
    ).takes("study")
    parser.add_argument("--corpus", required=True, help="name of a published corpus of the study")
    arguments = parser.parse_args()
    started = time.time()
    study, corpus = load(arguments.study), arguments.corpus
    published = chosen(study, corpus)
    pieces = find(corpus, published)
    check(Sharded(pieces[:-1], pieces[-1], published.sha256))  # else a shard cut short would be recorded as it is
    folder = Path(published.folder) if published.folder else paths.external(corpus)
    *shards, index = (
        TokenFile(piece.path.relative_to(folder).as_posix(), piece.bytes, piece.sha256) for piece in pieces
    )
    manifest.write(  # nothing is hashed here: the join reads every byte anyway, and the corpus's manifest names it
        paths.external(corpus),
        ExternalFacts(folder.as_posix(), shards, index),
        subject={"corpus": corpus},
        settings=study.corpus_settings(corpus),
        started=started,
    )
    print(f"{folder}: {len(pieces) - 1} shards, {sum(piece.bytes or 0 for piece in pieces)} bytes")
