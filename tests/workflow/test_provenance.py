"""The provenance of a finished study: what others' tools read of it, and its signature."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import rocrate
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester

from scripts.common.files import read_json, read_yaml, sha256_file
from tests.workflow.conftest import SMOKE, Workflow

# the package's copy of RO-Crate's context is of 1.3; 1.1, on which the profiles rest, has these names without "terms/"
RENAMED = {name: f"https://bioschemas.org/{name}" for name in ("ComputationalWorkflow", "FormalParameter")}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The validator gets RO-Crate's context from the package that holds it."""
    context = json.loads((Path(rocrate.__file__).parent / "data/ro-crate.jsonld").read_text())
    context["@context"].update(RENAMED)

    class Answer:
        status_code = 200
        headers = {"Content-Type": "application/ld+json"}
        text = json.dumps(context)
        content = text.encode()

        def json(self) -> Any:
            return context

    def get(_: HttpRequester, url: str, **__: object) -> Answer:
        assert url == "https://w3id.org/ro/crate/1.1/context", url
        return Answer()

    monkeypatch.setattr(HttpRequester, "get", get, raising=False)


def test_the_crate_is_a_provenance_run_crate(finished: Workflow, offline: None) -> None:
    settings = services.ValidationSettings(
        rocrate_uri=str(finished.folder),
        profile_identifier="provenance-run-crate-0.5",
        requirement_severity=models.Severity.REQUIRED,
    )
    result = services.validate(settings)
    assert result.passed(), [issue.message for issue in result.get_issues()]


def test_a_crate_without_its_workflow_is_none(finished: Workflow, tmp_path: Path, offline: None) -> None:
    content = read_json(finished.folder / "ro-crate-metadata.json")
    root = next(entity for entity in content["@graph"] if entity["@id"] == "./")
    del root["mainEntity"]
    shutil.copytree(finished.folder / "results/provenance", tmp_path / "results/provenance")
    (tmp_path / "ro-crate-metadata.json").write_text(json.dumps(content))
    settings = services.ValidationSettings(
        rocrate_uri=str(tmp_path),
        profile_identifier="provenance-run-crate-0.5",
        requirement_severity=models.Severity.REQUIRED,
        abort_on_first=True,
    )
    assert not services.validate(settings).passed()


def test_the_statement_names_every_artefact_by_its_bytes(finished: Workflow) -> None:
    content = read_json(finished.folder / "results/provenance/statement.json")
    assert content["_type"] == "https://in-toto.io/Statement/v1"
    named = {subject["name"]: subject["digest"]["sha256"] for subject in content["subject"]}
    for run in ("pythia-tiny", "pythia-small"):
        assert f"checkpoints/{run}/manifest.json" in named and f"models/{run}/step8/manifest.json" in named
        assert f"results/evals/{run}/zero-shot/step8.json" in named
    assert all(sha256_file(finished.folder / name) == digest for name, digest in named.items())
    sources = content["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert "pkg:pypi/cramjam@2.8.3" in {source["uri"] for source in sources}


def test_the_checklist_is_filled_from_the_study(finished: Workflow) -> None:
    text = (finished.folder / "results/provenance/checklist.md").read_text()
    for told in ("3: pythia-tiny, pythia-small, pythia-tiny-deduped", "torch 2.13.0", "cramjam 2.8.3", "width 32"):
        assert told in text
    assert "| Energy | not told by the study's files" in text
    table = (finished.folder / "results/provenance/artifact.md").read_text()
    assert "results/audit/replay.json: pass" in table


def test_a_signature_holds_until_a_file_changes(finished: Workflow, tmp_path: Path) -> None:
    private, public = ec.generate_private_key(ec.SECP256R1()), tmp_path / "public.pem"
    pem = serialization.Encoding.PEM
    (tmp_path / "private.pem").write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    shutil.copytree(finished.folder, tmp_path / "copy", symlinks=True)
    copy = Workflow(tmp_path / "copy")
    signed = copy.command_line("scripts.audit", "provenance", "--sign-with", str(tmp_path / "private.pem"))
    assert signed.returncode == 0, signed.stderr
    verified = copy.command_line("scripts.audit", "provenance", "--verify-with", str(public))
    assert verified.returncode == 0, verified.stderr
    statement = copy.folder / "results/provenance/statement.json"
    statement.write_text(statement.read_text().replace("pythia-tiny", "pythia-tinj", 1))
    refused = copy.command_line("scripts.audit", "provenance", "--verify-with", str(public))
    assert refused.returncode == 2 and "results/provenance.sig: does not fit results/provenance" in refused.stderr


def test_a_missing_artefact_is_refused_by_name(finished: Workflow, tmp_path: Path) -> None:
    shutil.copytree(finished.folder / "results", tmp_path / "results")
    done = Workflow(tmp_path).command_line("scripts.audit", "provenance")
    assert done.returncode == 2 and "data/deduped/manifest.json: missing" in done.stderr


def test_evidence_is_made_after_all_it_tells_of(finished: Workflow) -> None:
    """The verdicts of every part stand in the table, and the crate's Snakemake is the one that ran."""
    table = (finished.folder / "results/provenance/artifact.md").read_text()
    for part in ("integrity", "replay", "recency", "verdict"):
        assert f"results/audit/{part}.json: pass" in table
    content = read_json(finished.folder / "ro-crate-metadata.json")
    language = next(entity for entity in content["@graph"] if entity["@id"] == "#snakemake")
    assert language["version"] == metadata.version("snakemake")


def test_evidence_waits_for_models_that_nothing_looks_at(tmp_path: Path) -> None:
    content = read_yaml(SMOKE)
    content["evaluation"]["steps"] = content["memorization"]["steps"] = [8]
    content["runtime"]["checkpoints_per_batch"] = 2
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    planned = Workflow(tmp_path, file).planned("results/provenance/checklist.md")
    assert planned["convert"] == 9 and planned["integrity"] == 1  # of three runs steps 0 and 1, 2 and 4, 8
