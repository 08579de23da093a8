# Two commands for a fresh machine:  make demo   make test
# Everything is installed into .venv with the versions of constraints.txt; nothing else is touched.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Two busy OpenMP processes on two cores crawl, so the tests' processes get one thread each.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
PYTEST := $(TEST_ENV) $(BIN)/python -m pytest -q -p no:cacheprovider

.PHONY: help demo test quick check lint types contracts docs docs-check install smoke bench bench-demo soak clean

help:             ## this list
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/.installed   ## install, then watch a small model learn to reason (about 5 minutes)
	@$(BIN)/ponder demo $(ARGS)

test: .venv/.dev         ## install, then run all tests
	$(PYTEST) -n 2 --dist loadfile $(ARGS)

quick: .venv/.dev        ## the tests without the slow ones
	$(PYTEST) -n 2 --dist loadfile -m "not slow" $(ARGS)

check: lint types contracts docs-check test   ## everything that must be true before a commit lands

lint: .venv/.dev         ## ruff: form and mistakes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.dev        ## mypy, strict, tests included
	$(BIN)/mypy

contracts: .venv/.dev    ## import-linter: who may import whom
	$(BIN)/lint-imports --no-cache

docs: .venv/.dev         ## write the generated pages of docs/
	$(BIN)/python -m ponder.docs write

docs-check: .venv/.dev   ## fail when a generated page is stale
	$(BIN)/python -m ponder.docs check

install: .venv/.installed    ## the program alone, into .venv

smoke: .venv/.dev        ## build the wheel, install it alone in an empty environment, run it
	$(PYTEST) tests/test_wheel.py $(ARGS)

bench: .venv/.bench .venv-peers/.installed    ## every promise of speed beside what was measured (under ten minutes)
	$(BIN)/python -m bench $(ARGS)

bench-demo: .venv/.dev   ## the five-seed table of the demo (about half an hour)
	$(BIN)/python bench/demo.py --seeds 5 --jobs 2

soak: .venv/.dev         ## an hour with everything on: does anything grow? (ARGS='--minutes 10')
	$(BIN)/python -m bench.soak $(ARGS)

clean:            ## remove .venv, .venv-peers and what tools leave behind; runs in the ponder home stay
	rm -rf .venv .venv-peers build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: ponder needs Python 3.11 or newer, and $(PYTHON) is older"; \
	    echo "hint: make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "error: no virtual environment could be made"; \
	    echo "hint: on Debian and Ubuntu, apt install python3-venv"; rm -rf .venv; exit 2; }

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing ponder into .venv (PyTorch is large: a few minutes on a slow line)" >&2
	@$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/.dev: .venv/.installed
	@echo "installing the tools for tests and checks into .venv" >&2
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv/.bench: .venv/.dev
	@echo "installing matplotlib for bench/ into .venv" >&2
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

.venv-peers/.installed: pyproject.toml constraints.txt
	@echo "installing TRL, to compare with, into .venv-peers (with a PyTorch of its own: a few minutes on a slow line)" >&2
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --editable '.[peers]'
	@touch $@
