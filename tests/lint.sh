#!/usr/bin/env bash
# Every linter, all findings shown, exit code 1 if there is one.
cd "$(dirname "$0")/.." || exit 1
failed=0
run() { echo "+ $*"; "$@" || failed=1; }
run ruff format --check .
run ruff check .
run mypy
run lint-imports
run snakefmt --check Snakefile rules
run snakemake --lint
exit "$failed"
