# Everything a developer does. Needs Python 3.11 to 3.13 and make; `setup` brings the rest into .venv.
#
#   make demo     trains, scores and exports a small model on generated images, and shows what it sees
#   make test     lint, types, layers and the quick tests
#
# PYTHON names the interpreter to build .venv with, PIP_EXTRA holds further options for pip (see README.md).

SHELL := /bin/sh
BIN := .venv/bin
STAMP := .venv/.installed
PYTHON ?=
PIP_EXTRA ?=
DEMO := demo
WORKERS ?= logical
PYTEST = $(BIN)/pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

# The tests start many processes; without bytecode files each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup setup-tools browser demo test test-slow test-quick coverage
.PHONY: lint lint-style lint-types lint-layers fmt bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -c 'import pip' 2>/dev/null || { \
	  for python in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	    if "$$python" -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	      >/dev/null 2>&1; then break; fi; python=; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "segdsl needs Python 3.11, 3.12 or 3.13 with venv; name one: make setup PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	  fi; \
	  echo "making .venv with $$python"; "$$python" -m venv --clear .venv; }
	$(BIN)/python -m pip install --disable-pip-version-check -q $(PIP_EXTRA) -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

# What only developers of segdsl need: the checks before each commit, and a browser for the tests of what it shows.
setup-tools: setup browser
	$(BIN)/pre-commit install

browser:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
	  if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get -qq update && apt-get -qqy install --no-install-recommends chromium fonts-dejavu-core; \
	else \
	  echo "install Chromium: the tests of reports open them in it" >&2; exit 1; \
	fi

demo: setup
	rm -rf $(DEMO)/data $(DEMO)/run $(DEMO)/pictures
	$(BIN)/segdsl demo-data $(DEMO)/data
	$(BIN)/segdsl train specs/quickstart.seg --data $(DEMO)/data --out $(DEMO)/run
	$(BIN)/segdsl eval $(DEMO)/run --data $(DEMO)/data
	$(BIN)/segdsl export $(DEMO)/run
	$(BIN)/segdsl predict $$(ls $(DEMO)/run/export/*.xml) $(DEMO)/data/val/images --out $(DEMO)/pictures
	@echo
	@echo "The exported model: $$(ls $(DEMO)/run/export/*.xml)"
	@echo "What it sees:       $(CURDIR)/$(DEMO)/pictures"

lint: lint-style lint-types lint-layers

lint-style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/segdsl fmt --check specs segdsl/std

lint-types: setup
	$(BIN)/pyright

lint-layers: setup
	$(BIN)/lint-imports

# Pyright keeps one core busy for a minute, so it runs beside the tests.
test: setup
	@$(MAKE) --no-print-directory -j 2 lint test-quick

test-quick: setup
	$(PYTEST) -m "not slow"

test-slow: setup
	$(PYTEST) -m slow

coverage: setup
	$(PYTEST) -m "not slow" --cov=segdsl --cov-branch --cov-report=term:skip-covered

fmt: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/segdsl fmt specs segdsl/std
	$(BIN)/python -m segdsl.editor.generate

bench: setup
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/compile.py

clean:
	rm -rf .venv demo dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
