# The words that people, CI and the documentation share. `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where pip finds a CPU build of torch, if not on the default index: make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Tiny models are many times faster on one thread than on several.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help setup demo mlflow-up test test-slow test-cluster test-docker lint format types golden docs bench images image-locks repro clean

help:  ## Lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## Installs everything, pinned, into .venv (once)

$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25'
	@# torch first and exactly: any other range would pull the CUDA build.
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[data,slides,train,s3,registry,server,dev]'
	@# Its build looks at the torch that is there.
	$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation "$$(grep '^deepspeed==' constraints.txt)"
	@touch $@

demo: setup  ## Runs the smoke recipe: the whole pipeline with tiny models on this machine
	$(BIN)/pathoflow run --recipe smoke --workdir runs/demo

mlflow-up: setup  ## Starts MLflow on PostgreSQL with logins, hardened (needs Debian's postgresql; Ctrl-C ends it)
	$(BIN)/python -m tools.mlflow_server

# Fault tests send real signals to real processes and can miss on a loaded machine: what failed gets one more try, alone.
tested = $(BIN)/python -m pytest $(2) -m "$(1)" || $(BIN)/python -m pytest --last-failed --last-failed-no-failures none -m "$(1)"

test: setup  ## Runs every test but the slow ones and those that need a cluster or Docker
	$(call tested,not slow and not docker and not cluster,-n 2 --dist loadfile)

test-slow: setup  ## Runs the slow tests: the full smoke run and the fault tests at full count
	$(BIN)/python -m pytest -m slow

test-cluster: setup  ## Runs the tests on the Kubernetes API server that PATHOFLOW_TEST_KUBECONFIG names
	$(call tested,cluster and not slow)

test-docker: setup  ## Builds the images and tests them as containers (needs Docker, and a BASE image; see images/README.md)
	$(BIN)/python -m pytest -m "docker and not slow" tests/images

lint: setup  ## Checks style, docstrings, import rules and generated files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m tools.readmes --check
	$(BIN)/python -m tools.dvc_yaml --check
	$(BIN)/python -m tools.dashboard --check

format: setup  ## Formats the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: setup  ## Checks the types
	$(BIN)/mypy

golden: setup  ## Regenerates the compiled pipeline of each recipe in tests/golden
	$(BIN)/python -m tools.golden

docs: setup  ## Regenerates the stages' READMEs, the main one's tables and graph, dvc.yaml and the dashboard
	$(BIN)/python -m tools.readmes
	$(BIN)/python -m tools.dvc_yaml
	$(BIN)/python -m tools.dashboard

images:  ## Builds the container images from the commit; IMAGES, ENGINE, REGISTRY, PUSH, …: see images/README.md
	@images/build

image-locks: setup  ## Pins what each image installs, with hashes, in images/*/requirements.txt
	$(BIN)/python -m tools.image_locks

bench: setup  ## Runs the benchmarks (`python -m bench NAME` runs one) and regenerates bench/README.md
	$(BIN)/python -m bench

clean:  ## Removes the virtual environment and caches, never a run
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

repro: setup  ## Runs the pipeline by `dvc repro`, as params.yaml says
	PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro
