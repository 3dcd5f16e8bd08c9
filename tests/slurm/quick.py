"""Snakemake that looks at its Slurm jobs every two seconds; the plugin waits ten seconds longer from look to look."""

from __future__ import annotations

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda self: 2.0, lambda self, seconds: None)

if __name__ == "__main__":
    main()
