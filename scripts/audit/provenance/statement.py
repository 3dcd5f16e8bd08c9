"""An in-toto statement of a study: the sha256 of every artefact, and what it was built from.

Statement v1 (https://in-toto.io/Statement/v1) with SLSA's provenance v1 (https://slsa.dev/provenance/v1) as predicate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.audit.provenance.artefacts import Artefact, record
from scripts.common.files import sha256_file
from scripts.study.study import Study

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "urn:castalia:study"
BUILDER = "urn:castalia:snakemake"


def statement(study: Study, found: list[Artefact]) -> dict[str, Any]:
    """The statement; it names nothing of one execution but code revisions and package versions."""
    subjects = [
        {"name": artefact.path.as_posix(), "digest": {"sha256": sha256_file(artefact.path)}} for artefact in found
    ]
    return {
        "_type": STATEMENT,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {"study": study.file.model_dump()},
                "resolvedDependencies": dependencies(study),
            },
            "runDetails": {"builder": {"id": BUILDER, "version": versions(found)}},
        },
    }


def dependencies(study: Study) -> list[dict[str, Any]]:
    """What the study was made from and does not hold itself: archives and a given tokenizer, by their sha256."""
    found = []
    for name, component in study.file.data.components.items():
        if component.archive:
            archive = component.archive
            uri = f"pkg:pypi/{archive.package}@{archive.version}"
            found.append({"name": f"{name}: {archive.file}", "uri": uri, "digest": {"sha256": archive.sha256}})
    tokenizer = study.file.data.tokenizer
    if tokenizer.sha256:
        found.append({"name": "tokenizer", "digest": {"sha256": tokenizer.sha256}})
    return found


def versions(found: list[Artefact]) -> dict[str, str]:
    """Code revisions and package versions that the artefacts' records name; several of one are joined."""
    known: dict[str, set[str]] = {}
    for artefact in found:
        told = record(artefact.path)
        named = {"castalia": told.get("code"), "python": told.get("python"), **told.get("packages", {})}
        for name, version in named.items():
            if version:
                known.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(versions)) for name, versions in sorted(known.items())}


def sign(folder: Path, signature: Path, key: Path) -> None:
    """Sign every file of a folder with an elliptic-curve private key (PEM), as `model_signing verify key` reads it."""
    import model_signing

    model_signing.signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, signature)


def verify(folder: Path, signature: Path, key: Path) -> None:
    """Check a signature with the public key (PEM); raises ValueError if the key or a file is another."""
    import model_signing

    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)
