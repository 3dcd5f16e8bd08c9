# Castalia: one Pythia-style scaling suite as one workflow. `snakemake --profile profiles/local` runs it.
import os
import subprocess

from snakemake.utils import min_version

min_version("9.27")


report: "rules/report/workflow.rst"


include: "rules/common.smk"
include: "rules/batches.smk"
include: "rules/resources.smk"
include: "rules/remembered.smk"
include: "rules/data.smk"
include: "rules/deduplicate.smk"


for package in dict.fromkeys(stage.package for stage in STAGES):

    include: f"rules/{package}.smk"


include: "rules/analyze.smk"
include: "rules/science.smk"
include: "rules/report.smk"
include: "rules/audit.smk"
include: "rules/plan.smk"
include: "rules/replay.smk"
include: "rules/recency.smk"
include: "rules/provenance.smk"
include: "rules/targets.smk"


rule all:
    default_target: True
    # every phase, so that a deleted model comes back even though the report made from it is still there
    input:
        data=DATA,
        runs=later(CHECKPOINTS, *OF_STAGES.values()),
        export_tables=EXPORT_TABLES,
        tables=TABLES,
        pages=RESULTS,
        cards=CARDS,
        audit=AUDIT,
        provenance=targets.provenance(STUDY),
    localrule: True
    message:
        "The study is complete"


onstart:
    # Disk, output folder, source files, foreign checkpoints: refused here, before the first job.
    begin(STUDY_FILE, STUDY, here=workflow.local_exec)
    record()
    print("Steps and time left of each job: make watch, in a second terminal", file=sys.stderr)


onsuccess:
    forget(ALONE)  # by the next start their job may be that of their batch
    person = os.environ.get("PWD", ".")  # where the shell is; Snakemake itself is in the study's folder
    closing = ["python", "-m", "scripts.operate", "closing", "--study", STUDY_FILE, "--person", person]
    asked = sorted(set(map(str, workflow.dag_settings.targets)) - {"all"})  # files, where they are no phase
    subprocess.run([*closing, *(["--targets", *asked] if asked else [])], check=False)


onerror:
    forget(ALONE)
