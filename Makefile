# Everything from a clone: `make compare` for the main job, `make check` before a commit, `make test` for the tests.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# Two processes with half of the tests each, neighbours together, which share what they compile and start; the one that
# is done first takes over from the other.
BOTH := --numprocesses 2 --dist worksteal

.PHONY: compare style check test thorough coverage release chaos fuzz bench peers gpu docs figures clean

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

style: .venv/tested  ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

# The quick tests: of the mathematics, of the documentation's links and drawings, and of what is depended on.
QUICK := $(addprefix tests/,rules tensors linesearch curvature architecture curriculum continuation stages \
	test_docs.py safety/test_dependencies.py optim/test_as_torch.py)

check: style  ## the style and the quick tests, in a minute on two cores
	$(PYTEST) $(BOTH) -m "not slow and not browser" $(QUICK)

test: style  ## every check, and every test but the thorough ones
	sh tests/install-browser.sh
	$(PYTEST) $(BOTH) -m "not thorough" --durations 10

thorough: .venv/tested  ## the tests that try again at a price: nodes of Ray that die, every fault, more dimensions
	$(PYTEST) -m thorough --durations 10

coverage: .venv/tested  ## every test again, with the lines of src that none runs; fails below 95 %
	sh tests/install-browser.sh
	$(PYTEST) $(BOTH) --cov --cov-report term

release: .venv/tested  ## wheel and source distribution in dist/, checked
	$(PIP) --editable '.[release]'
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

chaos: .venv/tested  ## every fault by the hundred; table in docs/chaos.md
	$(BIN)/python -m tests.chaos --write

fuzz: .venv/tested  ## the readers of bytes, ten minutes of atheris; crashes/ gets what breaks them
	$(PIP) --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz.readers 600

bench: .venv/benched  ## side by side with peers; JSON and tables in docs/benchmarks
	$(BIN)/python -m benchmarks

peers: .venv/tested  ## optimizers of other packages, held to their authors' loops; table in docs/peers.md
	$(PIP) --editable '.[peers]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.peers --write

gpu: .venv/benched  ## what needs a GPU: its tests, and its benchmark; table in docs/benchmarks.md
	$(PYTEST) -k "cuda or kernel" tests/optim tests/averaging tests/curvature tests/coordinate
	$(BIN)/python -m benchmarks gpu

docs: .venv/installed  ## the site, in docs/_build; needs no network
	$(PIP) --editable '.[docs]'
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build

figures: .venv/tested  ## the layers' drawing and the gallery's figures
	$(BIN)/python -m docs.layers
	$(BIN)/python -m docs.gallery

clean:
	rm -rf .venv docs/_build
