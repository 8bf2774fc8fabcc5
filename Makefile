# Two commands matter: `make run` and `make test`. Each sets itself up on a fresh machine.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SHELL  := /bin/bash
JOBS   ?= 4# two for each of two cores: half of the time goes to waiting for processes
TESTS  := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test test-ci test-all coverage check format bench clean

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"epad needs Python 3.11 or newer, this is {v[0]}.{v[1]}: make PYTHON=python3.11 run")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

run: $(VENV)/.installed                 ## start the daemon with its embedded default
	$(BIN)/epad run

test: $(VENV)/.installed-dev            ## every kind of test: about nine minutes on two cores, after set-up
	$(TESTS)

test-ci: $(VENV)/.installed-dev         ## and more of each kind, as CI runs them
	$(TESTS) -m "not slow"

test-all: $(VENV)/.installed-dev        ## and what is slow, all with its files on the disk
	EPAD_TEST_FILES=/tmp $(TESTS) -m "slow or not slow" --hypothesis-profile=thorough

coverage: $(VENV)/.installed-dev        ## test-ci, with branches and subprocesses counted; fails below pyproject's figure
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow"
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report

check: $(VENV)/.installed-dev           ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-dev           ## every claim with its number; QUICK=1 for a minute each
	@for script in bench/[a-z]*.py; do $(BIN)/python $$script $(if $(QUICK),--quick); done

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
