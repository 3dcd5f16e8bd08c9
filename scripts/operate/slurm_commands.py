"""What stands before Slurm's `sacct` and `sbatch` while Snakemake's plugin (2.8.0) watches a study.

The profile puts `profiles/slurm/bin` on PATH, which calls this file. The plugin has no option that does the same:

- `sacct` says CANCELLED by 1000, a state the plugin does not know: it would wait for such a job for ever.
- Without accounting `sacct` only fails, and the plugin's `squeue` mode is none: whenever slurmctld does not tell
  MinJobAge, the plugin asks `sacct` nevertheless, and after its last attempt forgets every job. So squeue answers here.
- A query that hangs is left behind by the plugin and asked again; here it ends.
- `sbatch` gives up after nine seconds without slurmctld, and the plugin counts a failed job: all its attempts would be
  over in less than a minute.
- `sbatch` fails as well when slurmctld took the job and only the answer was lost: another job would do the same work.
- A submission that says "submission failed" counts as failed, also when it succeeded in the end: here it says nothing.

It runs by its path, without the project's environment, which jobs inherit as it was. So it imports nothing of ours.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time

QUERY_SECONDS = 50.0  # the plugin waits 60 s for an answer
PATIENCE = 3600.0  # seconds to try a submission again; the profile's status attempts take as long
PAUSE = 2.0
DISABLED = "accounting storage is disabled"
# what Slurm says when it gets no answer, which does not mean that the job was not taken
UNANSWERED = re.compile(
    "Unable to contact slurm controller|Socket timed out|Zero Bytes were transmitted|Message (send|receive) failure"
    "|Connection (reset|timed out|refused)"
)


def without(folder: str, path: str) -> str:
    """PATH without this folder, so that the real commands are found."""
    return os.pathsep.join(part for part in path.split(os.pathsep) if part and os.path.realpath(part) != folder)


def asked(command: list[str], path: str, seconds: float = QUERY_SECONDS) -> tuple[int, str, str]:
    """Exit code, output and errors of a real command; it fails if Slurm does not answer in time."""
    environment = {**os.environ, "PATH": path}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return 1, "", f"{command[0]} gave no answer in {seconds:.0f} s\n"
    return done.returncode, done.stdout, done.stderr


def sacct(arguments: list[str], path: str) -> tuple[int, str, str]:
    """States as the plugin knows them, from accounting or, where there is none, from the queue."""
    if shutil.which("sacct", path=path):
        code, said, errors = asked(["sacct", *arguments], path)
        if DISABLED not in errors:
            return code, re.sub(r"\bCANCELLED by \d+", "CANCELLED", said), errors
    if "--name" not in arguments:  # nodes and reasons of failed jobs, which only accounting keeps
        return 0, "", ""
    name = arguments[arguments.index("--name") + 1]
    return asked(["squeue", "--noheader", "--states=all", "--format=%i|%T", "--name", name], path)


def taken(arguments: list[str], path: str, last: float) -> str:
    """Number of the live job of a submission without answer; empty if there is none, or no answer until `last`.

    Snakemake never has two jobs of one comment (rule and wildcards) at a time, so it is this submission's. The states
    are Slurm's base states: a requeued job is pending, and one that only frees its nodes may be the attempt before.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--job-name", required=True)  # the same for all jobs of this Snakemake
    parser.add_argument("--comment", required=True)
    parser.add_argument("--clusters")
    given = parser.parse_known_args(arguments)[0]
    queue = ["squeue", "--me", "--noheader", "--states=PENDING,RUNNING,SUSPENDED", "--format=%i|%k"]
    queue += ["--name", given.job_name, *(["--clusters", given.clusters] if given.clusters else [])]
    answers = 0
    while answers < 2 and time.monotonic() < last:  # the first may have overtaken the submission inside slurmctld
        time.sleep(PAUSE)
        code, said, _ = asked(queue, path)
        number = re.search(rf"^(\d+)\|{re.escape(given.comment)}$", said, re.MULTILINE)
        if number:
            return number[1]
        answers += code == 0
    return ""


def sbatch(arguments: list[str], path: str) -> tuple[int, str, str]:
    """Submit; again if there was no answer and no job came of it, for PATIENCE, which is also what one may take."""
    last = time.monotonic() + PATIENCE
    while True:
        code, said, errors = asked(["sbatch", *arguments], path, PATIENCE)
        if code == 0 or not UNANSWERED.search(errors):
            return code, said, errors
        number = taken(arguments, path, last)
        if number:
            return 0, f"{number}\n", f"sbatch: slurmctld has taken job {number}; only its answer was lost\n"
        if time.monotonic() > last:
            return code, said, f"{errors}sbatch: slurmctld could not be reached for {PATIENCE / 60:g} min\n"


def main() -> None:
    folder, name, *arguments = sys.argv[1:]
    path = without(folder, os.environ["PATH"])
    code, said, errors = {"sacct": sacct, "sbatch": sbatch}[name](arguments, path)
    sys.stdout.write(said)
    sys.stderr.write(errors)
    sys.exit(code)


if __name__ == "__main__":
    main()
