# Each target creates the virtual environment and installs what it needs by itself.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test test-long lint clean

demo: $(VENV)/.installed   ## train the digits teacher and its few-step students
	$(BIN)/gendiff run digits_fewstep

test: lint   ## the linter, the type checker and the tests
	$(BIN)/python -m pytest -n 3

test-long: $(VENV)/.installed-dev   ## the tests that take minutes: launchers killed, sweeps, W&B's agent
	$(BIN)/python -m pytest -m long

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch and what else is needed into $(VENV): some minutes, 6 GB"
	$(BIN)/pip install --upgrade --quiet pip

$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet -e '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info
