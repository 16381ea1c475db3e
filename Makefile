# Everything from a clone: `make compare` for the main job, `make test` for every test.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: compare test chaos fuzz bench docs clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable '.[compare]'
	touch $@

.venv/tested: .venv/installed
	$(PIP) --editable '.[test]'
	touch $@

.venv/benched: .venv/tested
	$(PIP) --editable '.[bench]'
	touch $@

compare: .venv/installed  ## the main job on the embedded default task
	$(BIN)/thalweg compare --out thalweg-digits

test: .venv/tested  ## every check and every test
	sh tests/install-browser.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --durations 10

chaos: .venv/tested  ## every fault by the hundred; table in docs/chaos.md
	$(BIN)/python -m tests.chaos --write

fuzz: .venv/tested  ## the readers of bytes, ten minutes of atheris; crashes/ gets what breaks them
	$(PIP) --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz.readers 600

bench: .venv/benched  ## side by side with peers; JSON and tables in docs/benchmarks
	$(BIN)/python -m benchmarks

docs: .venv/tested  ## API reference and gallery figures
	$(BIN)/python -m docs.gallery
	$(BIN)/pdoc --math --output-directory docs/_build thalweg

clean:
	rm -rf .venv docs/_build
