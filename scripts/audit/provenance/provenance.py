"""Write what a paper or an archive asks for: RO-Crate, in-toto statement, reproducibility checklist, artifact table."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.audit.provenance import checklist, statement
from scripts.audit.provenance.artefacts import artefacts
from scripts.common.command import Parser
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import write_json, write_text
from scripts.study import paths
from scripts.study.study import Study, load

WORKFLOW = paths.PROVENANCE / "Snakefile"
SNAKEFILE = ROOT / "Snakefile"


def write(study: Study) -> None:
    """Write everything but the signature; raises UserError if the study is not finished."""
    from scripts.audit.provenance.crate import metadata

    found = artefacts(study)
    paths.PROVENANCE.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SNAKEFILE, WORKFLOW)
    write_json(paths.PROVENANCE / "statement.json", statement.statement(study, found))
    rows = checklist.checklist(study, found)
    write_text(
        paths.PROVENANCE / "checklist.md", checklist.markdown("Reproducibility checklist", ("item", "answer"), rows)
    )
    table = checklist.artifact_table(len(study.runs), found)
    write_text(paths.PROVENANCE / "artifact.md", checklist.markdown("ACM artifact table", ("badge", "evidence"), table))
    write_json(paths.CRATE, metadata(study, found, WORKFLOW))


def checked_key(option: str, path: Path) -> Path:
    """The key's file; raises UserError if it is none."""
    if not path.is_file():
        raise UserError(f"{option}: {path} does not exist\n  write:   {option} with a PEM file")
    return path


def main() -> None:
    parser = Parser(
        description=f"{__doc__} They lie in {paths.PROVENANCE}/, the crate's {paths.CRATE} at the top of the study's "
        "folder."
    ).takes("study")
    parser.add_argument(
        "--sign-with", type=Path, help=f"private key (PEM, NIST curve): sign the folder, {paths.SIGNATURE}"
    )
    parser.add_argument("--verify-with", type=Path, help="public key (PEM): only check the folder's signature")
    arguments = parser.parse_args()
    study = load(arguments.study)
    if arguments.verify_with is not None:
        try:
            statement.verify(paths.PROVENANCE, paths.SIGNATURE, checked_key("--verify-with", arguments.verify_with))
        except ValueError as error:
            raise UserError(f"{paths.SIGNATURE}: does not fit {paths.PROVENANCE}: {error}") from None
        print(f"{paths.SIGNATURE}: signed by this key, and nothing in {paths.PROVENANCE} has changed since")
        return
    write(study)
    if arguments.sign_with is not None:
        statement.sign(paths.PROVENANCE, paths.SIGNATURE, checked_key("--sign-with", arguments.sign_with))
    print(f"{paths.PROVENANCE}, {paths.CRATE}" + (f", {paths.SIGNATURE}" if arguments.sign_with else ""))
