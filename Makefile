# make ask            environment, model, and one real question answered; make ask Q="..." asks your own
# make test           environment, the small test model, linters, types and all tests
# make lock           pins every dependency again, with hashes, for every platform and Python from 3.11 on

PYTHON ?= python3
BIN := .venv/bin
ASK ?=
define QUESTION
Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did she sell altogether?
endef
Q ?= $(QUESTION)
export Q

.PHONY: ask test lint lock clean
.DEFAULT_GOAL := ask

ask: .venv/ready
	@$(BIN)/pondera ask $(ASK) -- "$$Q"

test: .venv/ready
	$(BIN)/pondera models pull smollm2-135m
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Pondera needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch .venv/ready

lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --output-file requirements.lock

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
