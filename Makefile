# From a fresh clone: `make demo` trains a small model and solves a puzzle, `make test` tests, `make checks` lints,
# `make docs` builds the documentation, `make bench` measures, `make page` serves the page that solves Sudokus.
# `make test-oldest` and `make test-newest` test with the oldest versions that setup.cfg allows and the newest there are.
# VENV is the virtual environment to use (made when there is none), PYTHON the interpreter it is made from, VERSIONS what
# tells pip which versions to install.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
VERSIONS ?= --constraint constraints.txt
PIP := $(BIN)/python -m pip install --quiet $(VERSIONS)
MODEL_FILES = $(wildcard hrm_hf/hrm/configuration_*.py hrm_hf/hrm/modeling_*.py hrm_hf/hrm/processing_*.py)
# Tests run on all cores, those of a file on the same one, where they share what is slow to make.
WORKERS := -n auto --dist loadfile --no-loadscope-reorder
MANIFESTS := pyproject.toml setup.cfg $(filter %.txt,$(VERSIONS))

.PHONY: demo test test-oldest test-newest hostile checks docs bench page

demo: $(VENV)/.installed
	$(BIN)/accelerate launch examples/train_sudoku.py

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(WORKERS)

test-oldest:
	$(MAKE) test VENV=.venv-oldest VERSIONS='--constraint constraints-oldest.txt'

# The stamps go, for there may be newer versions since.
test-newest:
	$(RM) .venv-newest/.installed*
	$(MAKE) test VENV=.venv-newest VERSIONS='--upgrade --upgrade-strategy eager'

# Ten times as many damaged inputs as `make test`; the last lines say how many.
hostile: $(VENV)/.installed-test
	HRM_HOSTILE_FACTOR=10 HRM_HOSTILE_AT_LEAST=10000 $(BIN)/python -m pytest $(WORKERS) -k hostile

checks: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python .ci/lint_model_files.py $(MODEL_FILES)

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/run_all.py

page: build/page/index.html
	@echo "Open http://127.0.0.1:8000 (Ctrl-C ends it)"
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/page 8000

build/page/index.html: $(wildcard examples/space/* hrm_hf/pretrained/sudoku-9x9/* hrm_hf/hrm/*.py) $(VENV)/.installed-test
	rm -rf build/page
	$(BIN)/python examples/space/build.py --output-dir build/page

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps say when the environment was last installed, so that nothing is installed again until a manifest changes.
# torch goes first: by far the largest, and a build of it that suits the machine stays in place for the rest.
$(VENV)/.installed: $(MANIFESTS) | $(BIN)/python
	$(PIP) torch
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	touch $@
