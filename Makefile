# Two commands do everything, set-up included: `make demo` (train, evaluate and sample a Reformer) and `make test`.
PYTHON ?= python3
VENV   ?= .venv
RUN    := $(VENV)/bin

.PHONY: demo test lint setup clean

demo: $(VENV)/.train
	$(RUN)/reformer demo

test: $(VENV)/.test
	$(RUN)/python -m pytest -n 2

lint: $(VENV)/.test
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	PYTHONPATH=src:reproduction $(RUN)/lint-imports

setup: $(VENV)/.test

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: $(VENV)/bin/python pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml reproduction/pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,reproduction,test,lint]' -e ./reproduction
	@touch $@

clean:
	rm -rf $(VENV) build
