# Two commands for a fresh machine with Python 3.11 or newer, git and make:
#   make demo    the paper's story in miniature, on this machine's CPU
#   make test    every check of the project
# Both set up everything they need in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
STAMP := $(VENV)/.installed
SHELL_SCRIPTS := .ci/run tpu_scripts/worker.sh tests/tpu_scripts/uv.sh

.PHONY: demo demo-full demo-quick test test-slow reliability lint format typecheck clean

demo: $(STAMP)
	$(BIN)/mre demo

demo-full: $(STAMP)
	$(BIN)/mre demo --full

# The demo's chain alone, which proves nothing of its claims.
demo-quick: $(STAMP)
	$(BIN)/mre demo --quick --restart

test: $(STAMP) lint typecheck
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# What a run survives, with figures: half an hour.
reliability: $(STAMP)
	$(BIN)/python -m tests.reliability

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/shfmt -d -i 2 $(SHELL_SCRIPTS)
	$(BIN)/hadolint tpu_scripts/Dockerfile

typecheck: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/shfmt -w -i 2 $(SHELL_SCRIPTS)

$(STAMP): pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[torch,data,judge,report,smartedit,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
