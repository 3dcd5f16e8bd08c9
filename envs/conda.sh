#!/usr/bin/env bash
# Write workflow.yaml, the lock as a conda environment. Snakemake copies such a file elsewhere, so the pins stand in it.
set -euo pipefail
cd "$(dirname "$0")"
{
  echo "# The pins of requirements.lock as a conda environment, written by envs/conda.sh."
  printf 'channels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip\n  - pip:\n'
  grep -v '^#' requirements.lock | sed 's/^/      - /'
} > workflow.yaml
