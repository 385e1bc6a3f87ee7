# Every target sets up what it needs: a virtual environment in .venv, installed once
# for each set of extras and again when pyproject.toml or constraints.txt change.

PYTHON ?= python3
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Processes that share the tests; -n0 for one, as a debugger needs it.
TEST_JOBS ?= -n auto --maxprocesses=8 --dist=worksteal
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-fast lint format types docs bench constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## find concepts in a real tissue image; figures in examples/figures
	MPLBACKEND=Agg $(BIN)/python examples/tissue_concepts.py

test: $(VENV)/.dev ## run the whole test suite and the package's doctests
	$(BIN)/python -m pytest $(TEST_JOBS) --doctest-modules $(PYTEST_ARGS) skdict tests

test-fast: $(VENV)/.dev ## run the tests that take less than a few seconds each
	$(BIN)/python -m pytest $(TEST_JOBS) -m "not slow" $(PYTEST_ARGS) tests

lint: $(VENV)/.dev ## check style and formatting, change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev ## repair style and formatting where ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## check the types of the package
	$(BIN)/mypy

docs: $(VENV)/.docs ## build the documentation with its examples into docs/_build/html
	rm -rf docs/api/generated docs/auto_examples
	MPLBACKEND=Agg $(BIN)/python -W error::UserWarning -W error::RuntimeWarning \
		-W error::FutureWarning -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)-bench/.made ## time it beside other libraries, an hour; BENCH_ARGS=--quick to try
	$(VENV)-bench/bin/python benchmarks/run $(BENCH_ARGS)

constraints: ## renew constraints.txt with the newest versions that pyproject.toml allows
	rm -rf $(VENV)-constraints
	$(PYTHON) -m venv $(VENV)-constraints
	$(VENV)-constraints/bin/python -m pip install -q torch==$(TORCH) -e '.[dev,docs]'
	sed '/^[^#]/,$$d' constraints.txt > $(VENV)-constraints/new.txt
	$(VENV)-constraints/bin/python -m pip freeze --exclude-editable \
		| sed 's/+cpu$$//' >> $(VENV)-constraints/new.txt
	mv $(VENV)-constraints/new.txt constraints.txt
	rm -rf $(VENV)-constraints

clean: ## remove the virtual environment and everything that was built
	rm -rf $(VENV) $(VENV)-* build dist docs/_build docs/api/generated docs/auto_examples examples/figures
	rm -rf docs/sg_execution_times.rst .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find skdict tests docs examples benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.made:
	@command -v $(PYTHON) > /dev/null || { echo "skdict needs Python 3.11 or newer," \
		"but there is no '$(PYTHON)'; name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
		"skdict needs Python 3.11 or newer, but $(PYTHON) is %d.%d; " \
		"name another: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The extra dev contains demo, so one installation serves both.
$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing skdict and the extra demo into $(VENV): a minute or two."
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing skdict and the extra dev into $(VENV): a minute or two."
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.demo $@

$(VENV)/.docs: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing skdict and the extra docs into $(VENV): a minute or two."
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[docs]'
	@touch $(VENV)/.demo $@

# By itself, as the other libraries bring a hundred packages along.
$(VENV)-bench/.made: pyproject.toml constraints.txt constraints-bench.txt
	@echo "Installing skdict and the extra bench into $(VENV)-bench: several minutes."
	$(PYTHON) -m venv --clear $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install -q -c constraints.txt \
		-c constraints-bench.txt -e '.[bench]'
	@touch $@
