# Everything a developer does, one target each. Needs python3 >= 3.11, make and a package registry.
# `make setup` builds .venv from the committed lock; every other target does that first if needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced
export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test interop check fix twins proto bench clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-7s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv with the package, every extra and the development tools

demo: $(STAMP) ## Show four money transfers between two banks, with crashes in between
	$(BIN)/reefknot demo

serve: $(STAMP) ## Start the server on ./reefknot.db (http://127.0.0.1:36789)
	$(BIN)/reefknot serve

# Most tests wait for processes, disks and clocks: three of them at once fill two cores. Four save 10 % of the time,
# and then some are late on a busy machine.
test: $(STAMP) ## Run every test
	$(BIN)/pytest -n 3

# INTEROP_STORES=all runs every case on every store of the server, not only on SQLite. GO_DTM names a built server of
# DTM for the SDK's tests, or says that it is to be built, which takes minutes of CPU the first time.
interop: export INTEROP_STORES := all
interop: export GO_DTM ?= build
interop: $(STAMP) ## Run clients in Go, Java and Python against started servers, on every store
	$(BIN)/pytest tests/interop

check: $(STAMP) ## Lint, formatting, types, import contracts, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports
	$(BIN)/python scripts/twins.py --check
	$(BIN)/pytest -q tests/test_architecture.py
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python scripts/public_types.py

fix: $(STAMP) ## Repair what the linter and the formatter can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

twins: $(STAMP) ## Write the SDK's synchronous modules anew from the asynchronous ones
	$(BIN)/python scripts/twins.py

# The oldest compiler whose code runs on every protobuf from 5.29 to 7; newer ones shut older runtimes out.
proto: $(STAMP) ## Generate the gRPC messages from their .proto files
	$(BIN)/uv tool run --quiet --from grpcio-tools==1.71.2 --with 'setuptools<81' \
		python -m grpc_tools.protoc -I src --python_out=src --pyi_out=src src/reefknot/wire/proto/*.proto

# A part of it, to look at: make bench BENCH='--quick --rows postgres/saga/64'
BENCH := --rounds 3 --write benchmarks/results.md
bench: $(STAMP) ## Measure a running server on every store and write benchmarks/results.md
	$(BIN)/python benchmarks/run.py $(BENCH)

clean: ## Remove .venv, caches and build results; never a store
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Reefknot needs Python 3.11 or newer; name one with: make PYTHON=python3.12")'
	@$(PYTHON) -m venv --clear $(VENV) || { echo 'cannot create a virtual environment; on Debian: apt-get install python3-venv' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

# Only what changes the environment is a prerequisite: a second `make setup` does nothing.
$(STAMP): pyproject.toml uv.lock | $(BIN)/uv
	$(BIN)/uv sync --quiet --frozen --inexact --all-extras --all-groups --python $(BIN)/python
	@touch $@
