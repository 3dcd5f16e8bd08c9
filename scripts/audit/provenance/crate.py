"""The study's folder as a Provenance Run Crate: what was run, on what, and what came out (https://w3id.org/ro/wfrun).

The metadata file stands at the top of the study's folder and names its artefacts where they are; nothing is copied but
the Snakefile. One action a stage and run, as its record tells.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity
from rocrate.rocrate import ROCrate

from scripts.audit.provenance.artefacts import COMMANDS, Artefact, record
from scripts.audit.provenance.statement import versions
from scripts.common.files import sha256_file
from scripts.study import paths
from scripts.study.config.study_file import APACHE
from scripts.study.study import Study

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
VERSION = "0.5"
LICENCES = {APACHE: ("https://www.apache.org/licenses/LICENSE-2.0", "Apache License 2.0")}
TERMS = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}  # what RO-Crate's own context does not know


def metadata(study: Study, found: list[Artefact], workflow: Path) -> dict[str, Any]:
    """Content of ro-crate-metadata.json; `workflow` is the Snakefile's copy in the study's folder."""
    crate = ROCrate(version="1.1")  # what the profiles rest on
    crate.metadata.extra_terms.update(TERMS)
    crate.name = f"{study.file.study}: a Pythia-style suite of {len(study.runs)} runs"
    crate.description = (
        f"Checkpoints, models, scores and memorization of {', '.join(study.runs)}, made by Castalia in one workflow."
    )
    licence = study.file.licence
    identity, name = LICENCES.get(licence, (f"#{licence}", licence))
    crate.license = _thing(crate, identity, "CreativeWork", name)
    ends = sorted(end for artefact in found if (end := record(artefact.path).get("finished")))
    crate.datePublished = ends[-1] if ends else "1970-01-01"
    profiles = [_thing(crate, url, "CreativeWork", name) for url, name in PROFILES.items()]
    for profile in profiles:
        profile["version"] = VERSION if "wfrun" in profile.id else "1.0"
    crate.root_dataset["conformsTo"] = profiles
    main = _workflow(crate, workflow, versions(found).get("snakemake"))
    given = _given(crate, main)
    files = {artefact.path: _file(crate, artefact.path) for artefact in found}
    tools = [_tool(crate, stage, module) for stage, module in COMMANDS.items()]
    main["hasPart"] = tools
    for tool, stage in zip(tools, COMMANDS, strict=True):
        mine = [artefact for artefact in found if artefact.stage == stage]
        for run, of_run in _by_run(mine).items():
            _action(crate, f"#{stage}-{run}", f"{stage} {run}", tool, given, [files[a.path] for a in of_run], of_run)
    _action(crate, "#study", f"the study {study.file.study}", main, given, list(files.values()), found)
    content: dict[str, Any] = crate.metadata.generate()
    return content


def _thing(crate: ROCrate, identity: str, kind: str, name: str, **more: Any) -> ContextEntity:
    entity = ContextEntity(crate, identity, properties={"@type": kind, "name": name, **more})
    crate.add(entity)
    return entity


def _workflow(crate: ROCrate, path: Path, version: str | None) -> Any:
    language = _thing(crate, "#snakemake", "ComputerLanguage", "Snakemake", url="https://snakemake.github.io",
                      **({"version": version} if version else {}))  # fmt: skip
    types = ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
    main = crate.add_file(
        dest_path=path.as_posix(), properties={"@type": types, "name": "Castalia", "encodingFormat": "text/plain"}
    )
    main["programmingLanguage"] = language
    crate.mainEntity = main
    return main


def _given(crate: ROCrate, main: Any) -> Any:
    """The study file, as the input of the workflow."""
    study = _file(crate, paths.STUDY)
    parameter = _thing(crate, "#parameter-study", "FormalParameter", "study", additionalType="File")
    parameter["workExample"] = study
    parameter["conformsTo"] = _thing(
        crate, "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE", "CreativeWork", "FormalParameter"
    )
    study["exampleOfWork"] = parameter
    main["input"] = parameter
    return study


def _file(crate: ROCrate, path: Path) -> Any:
    media = "application/json" if path.suffix == ".json" else "application/vnd.apache.parquet"
    told = {"name": path.as_posix(), "encodingFormat": media, "contentSize": str(path.stat().st_size),
            "sha256": sha256_file(path)}  # fmt: skip
    return crate.add_file(dest_path=path.as_posix(), properties=told)


def _tool(crate: ROCrate, stage: str, module: str) -> ContextEntity:
    identity = f"#{module.replace(' ', '-')}"  # a blank is no part of an IRI
    return _thing(crate, identity, "SoftwareApplication", module, description=f"The command of the stage {stage}")


def _by_run(found: list[Artefact]) -> dict[str, list[Artefact]]:
    """Artefacts by the run, or for data the corpus, that they are of."""
    by_run: dict[str, list[Artefact]] = {}
    for artefact in found:
        part = 2 if artefact.path.is_relative_to(paths.RESULTS) else 1
        by_run.setdefault(artefact.path.parts[part], []).append(artefact)
    return by_run


def _action(crate: ROCrate, identity: str, name: str, tool: Any, given: Any, made: list[Any],
            found: list[Artefact]) -> None:  # fmt: skip
    properties: dict[str, Any] = {
        "name": name,
        "description": f"{name}: {len(made)} artefacts",
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }
    if ends := sorted(end for artefact in found if (end := record(artefact.path).get("finished"))):
        properties["endTime"] = ends[-1]
    result = made[0] if len(made) == 1 else made
    action = crate.add_action(tool, identifier=identity, object=given, result=result, properties=properties)
    crate.root_dataset.append_to("mentions", action)
