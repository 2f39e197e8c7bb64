# squeezekit: `make demo` shows it, `make test` checks it. Both set up all they need.
# PYTHON=/path/to/python3.11 chooses the interpreter for a new environment.

PYTHON_IN  = .venv/bin/python
PEERS_IN   = .venv-peers/bin/python
TEST_FLAGS = -n auto --maxprocesses 4

.PHONY: help demo test tools lint unit peers peers-test peers-unit fuzz format constraints clean

help:
	@echo "make demo         train, evaluate, predict and report on an embedded data set"
	@echo "make test         formatting, lint, import contracts, types, tests"
	@echo "make fuzz         ten minutes of fuzzing the decoder"
	@echo "make format       let ruff format and mend the code"
	@echo "make peers        .venv-peers with every peer that squeezekit is measured against"
	@echo "make constraints  write constraints.txt anew from .venv"
	@echo "make clean        remove both environments and all caches"

demo:
	@scripts/environment.sh .venv train
	.venv/bin/squeezekit demo

# Quickest first; the whole test suite last, so that its closing line is the last line.
test: tools lint peers-unit unit

# What testing the C library needs. Where it cannot be installed, those tests say so and are skipped; in CI they fail.
tools:
	@scripts/environment.sh tools

lint:
	@scripts/environment.sh .venv train,dev
	$(PYTHON_IN) -m ruff format --check
	$(PYTHON_IN) -m ruff check
	.venv/bin/lint-imports
	$(PYTHON_IN) -m mypy

unit:
	@scripts/environment.sh .venv train,dev
	$(PYTHON_IN) -m pytest $(TEST_FLAGS) --ignore=tests/peers --cov --cov-report=term --cov-fail-under=80

# Against torchvision itself. pytest fails where it finds no test, so this cannot be skipped unnoticed.
peers-unit: peers-test
	$(PEERS_IN) -m pytest tests/peers

peers-test:
	@scripts/environment.sh .venv train,dev
	@scripts/environment.sh peers .venv-peers

peers:
	@scripts/environment.sh .venv train,dev
	@PEERS=all scripts/environment.sh peers .venv-peers

fuzz: tools
	@scripts/environment.sh .venv train,dev
	$(PYTHON_IN) benchmarks/fuzz.py --minutes 10

format:
	@scripts/environment.sh .venv train,dev
	$(PYTHON_IN) -m ruff check --fix-only
	$(PYTHON_IN) -m ruff format

constraints:
	@scripts/environment.sh .venv train,dev
	(sed -n '/^#/p' constraints.txt; .venv/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//') > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf .venv .venv-peers build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
