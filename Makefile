# Every target works on a fresh machine with Python 3.11 and make. `make help` lists them.
PYTHON ?= $(shell command -v python3.11 || echo python3)
STUDY ?= config.yaml
DIRECTORY ?= .
# paths stand in quotes, as they may hold blanks; make's own patsubst and abspath would take each word for a path
home = $(if $(filter ~/%,$(firstword $(1))),$(subst ~/,$(HOME)/,$(1)),$(1))
override DIRECTORY := $(call home,$(DIRECTORY))
STUDY_GIVEN := $(filter-out file default,$(origin STUDY))
override STUDY := $(call home,$(STUDY))
FROM_HERE = $(if $(filter /%,$(firstword $(STUDY))),$(STUDY),$(CURDIR)/$(STUDY))
ENV := .venv
READY := $(ENV)/.ready
PARALLEL := --numprocesses 2 --dist loadfile --no-loadscope-reorder
RUN := PATH="$(CURDIR)/$(ENV)/bin:$$PATH"

.DEFAULT_GOAL := help
.PHONY: help setup study science recordings fetch export plan resume watch status why audit test test-all test-slurm test-browser dry-run lint format bench docs clean-env

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv from the exact pins; the others do it first

slurm: # what makes `snakemake --profile slurm` find the profile: it looks in this folder, not in profiles/
	@ln -s profiles/slurm $@

$(READY): envs/requirements.lock | slurm
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "Castalia needs Python 3.11, and '$(PYTHON)' is not; write: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@if [ -L $(ENV) ]; then echo "$(ENV) is a link, and what it points to would be emptied; write: rm $(ENV)" >&2; exit 1; fi
	@echo "Installing the pinned packages into $(ENV) (once, some minutes)"
	@$(PYTHON) -m venv --clear $(ENV)  # by its own Python too, if that is active
	@$(ENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement envs/requirements.lock
	@touch $@

study: $(READY) ## run the whole default study; then open results/index.html (STUDY=..., DIRECTORY=..., TARGET=one file or phase)
	@$(RUN) python -m scripts.operate start --directory "$(DIRECTORY)" -- $(TARGET) --profile profiles/local --configfile "$(STUDY)"

recordings: TARGET = recordings
recordings: study ## what the study's key `recordings` asks for; what was not recorded in training is replayed (STUDY=..., DIRECTORY=...)

science: TARGET = science
science: study ## every analysis of a study, and their page results/science.html (STUDY=..., DIRECTORY=...)

export: $(READY) ## GGUF files of the models the study names, and the table of their memory and quality (STUDY=..., DIRECTORY=...)
	@$(RUN) python -m scripts.operate start --directory "$(DIRECTORY)" -- export --profile profiles/local --configfile "$(STUDY)"

fetch: $(READY) ## bring all that a study needs from a network, e.g. on a login node (STUDY=..., DIRECTORY=...)
	@$(RUN) python -m scripts.evaluate fetch --study "$(FROM_HERE)" --directory "$(DIRECTORY)"
	@$(RUN) snakemake --profile profiles/local --configfile "$(STUDY)" --directory "$(DIRECTORY)" fetched

resume: $(READY) ## start or go on with a study on Slurm, also after Snakemake died (STUDY=..., END=--end-jobs)
	@$(RUN) python -m scripts.operate start --directory "$(DIRECTORY)" $(END) -- $(TARGET) --profile slurm --configfile "$(STUDY)"

plan: $(READY) ## what a study will take: time, disk, jobs, cost (STUDY=..., DEVICE=..., GPUS=..., PRICE=...)
	@$(RUN) python -m scripts.plan show --study "$(STUDY)" --directory "$(DIRECTORY)" \
	  $(if $(DEVICE),--device $(DEVICE)) $(if $(GPUS),--gpus $(GPUS)) $(if $(PRICE),--price $(PRICE))

watch: $(READY) ## steps and time left of each running job, in a second terminal
	@$(RUN) python -m scripts.operate watch --directory "$(DIRECTORY)"

status: $(READY) ## what is done, running, failed, missing, by size and seed (STUDY=..., DIRECTORY=...)
	@$(RUN) python -m scripts.operate status --study "$(STUDY)" --directory "$(DIRECTORY)" || test $$? -eq 1

why: $(READY) ## what would run again for a file or a phase, and why (TARGET=..., STUDY=..., DIRECTORY=...)
	@$(RUN) python -m scripts.operate why $(TARGET) --study "$(STUDY)" --directory "$(DIRECTORY)"

# STUDY counts only if it is given: a suite is audited as the study it was made by, which lies in it
audit: WHERE = --directory "$(DIRECTORY)" $(if $(STUDY_GIVEN),--study "$(FROM_HERE)") $(if $(OUT),--out "$(OUT)")
audit: $(READY) ## is a suite complete, unaltered, one chain from step 0? (DIRECTORY=..., STUDY=..., OUT=..., AGAINST=suite.lock.json)
	@$(if $(AGAINST),$(RUN) python -m scripts.audit integrity --directory "$(DIRECTORY)" --against "$(AGAINST)",\
	  $(RUN) python -m scripts.audit integrity $(WHERE) --only-report && $(RUN) python -m scripts.audit page $(WHERE))

dry-run: $(READY) ## show what would run and why
	@$(RUN) python -m scripts.operate check --study "$(STUDY)" --file-only  # Snakemake would name no line of what is wrong
	@$(RUN) snakemake --profile profiles/local --configfile "$(STUDY)" --directory "$(DIRECTORY)" --dry-run $(TARGET)

test: $(READY) ## the tests, the smoke study end to end among them
	@$(RUN) python -m pytest -m "not slow" $(PARALLEL)

test-all: $(READY) ## the slow tests too (kills, the default study)
	@$(RUN) python -m pytest $(PARALLEL)

test-slurm: $(READY) ## the tests on a real Slurm, which they install and start (Debian, root)
	@$(RUN) tests/slurm/run.sh

test-browser: $(READY) ## every page in a browser, which they install (Debian, root; CASTALIA_FINISHED=folder: its pages too)
	@$(RUN) tests/browser/run.sh

lint: $(READY) ## ruff, mypy, snakefmt, snakemake --lint
	@$(RUN) tests/lint.sh

format: $(READY) ## format Python and Snakemake files
	@$(RUN) ruff format . && $(RUN) ruff check --fix . && $(RUN) snakefmt Snakefile rules

docs: $(READY) ## write config.schema.json and docs/config.md from the models
	@$(RUN) python -m scripts.study schema

bench: $(READY) ## measure the numbers of docs/performance.md (BENCH=--study: the whole study too; BENCH="--only gpu")
	@$(RUN) python -m tests.benchmarks.run $(BENCH)

clean-env: ## remove .venv
	@rm -rf $(ENV)
