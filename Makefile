# `make demo` runs the whole pipeline on the embedded default; `make test` runs all tests. Everything is installed into
# .venv from requirements.lock, and only what is stale is done again.

PYTHON ?= python3.11
CONFIG ?= config/config.yaml
# Of `make plan`: names in config/presets, layered in this order, and options such as --tokens-per-second=9000.
PRESET ?=
OPTIONS ?=
VENV := .venv
RUN := $(VENV)/bin
SNAKEMAKE := $(RUN)/snakemake --profile profiles/local
PYTHON_SOURCES := scripts tests resources bench

# Threads that wait by spinning slow down their neighbours.
export OMP_WAIT_POLICY := PASSIVE
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo test bench lint format plan lock clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# The lock is installed in two steps: with torch at its pinned version there, what depends on torch asks for no other.
$(VENV)/installed: requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	touch $@

demo: $(VENV)/installed ## run the pipeline on config/config.yaml (CONFIG=... for another) and print what it found
	$(SNAKEMAKE) --configfile $(CONFIG)
	@$(RUN)/python scripts/summarize.py $(CONFIG)

test: $(VENV)/installed ## run all tests; the first time, SGLang is installed into the user's cache for some of them
	@PYTHON=$(PYTHON) tests/sglang_cpu/install.sh
	@# Without a C compiler this fails, and the tests of one verifier are skipped with the reason.
	-@$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tests/reasoning_gym.txt
	@# Side by side, each test's BLAS on one core; the others start jobs and servers, and run in two lanes.
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile tests/unit
	$(RUN)/python -m pytest --numprocesses 2 --dist loadgroup tests/integration

bench: $(VENV)/installed ## measure speed as ratios against baselines; writes bench/results.json
	$(RUN)/python bench/run.py

lint: $(VENV)/installed ## check style and the workflow
	$(RUN)/ruff check $(PYTHON_SOURCES)
	$(RUN)/ruff format --check $(PYTHON_SOURCES)
	$(RUN)/snakefmt --check Snakefile rules
	$(RUN)/snakemake --lint

format: $(VENV)/installed ## rewrite the sources in the project's style
	$(RUN)/ruff check --fix $(PYTHON_SOURCES)
	$(RUN)/ruff format $(PYTHON_SOURCES)
	$(RUN)/snakefmt Snakefile rules

plan: $(VENV)/installed ## show jobs, hours and disk of a run, and run nothing (PRESET="llama-3.2-3b grid-filtered")
	@$(RUN)/python scripts/plan_run.py $(or $(PRESET:%=config/presets/%.yaml),$(CONFIG)) $(OPTIONS)

lock: ## pin requirements.in into requirements.lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet pip-tools==7.6.2
	.venv-lock/bin/pip-compile --quiet --no-header --no-emit-find-links --no-emit-index-url --strip-extras \
	  --allow-unsafe --output-file requirements.lock requirements.in
	sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' requirements.lock # the build (cpu, cuda) is the machine's choice
	rm -rf .venv-lock

clean: ## delete results, logs and the environment; downloaded models stay in the user's cache
	rm -rf results logs benchmarks .snakemake bench/*.json .pytest_cache .ruff_cache $(VENV)
