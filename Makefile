# make demo    the main job on the embedded corpus, in three minutes
# make check   lint, types and the fast tests; the first time compiles
# make test    lint, types and all tests: everything CI runs
# make cluster the tests of the Ray cluster, which it installs
# make format  rewrites what ruff can
# make clean   removes the environment and all caches
# Each installs what it needs into .venv.
PYTHON ?= python3
BIN := .venv/bin
# Large pages: page faults cost a small model about a fifth of its time without.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

# Without bytecode: most modules are never imported, and Python writes that of
# the others at the first import; unless it is told not to, and then every
# command would compile for ten seconds what it imports.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet \
  --no-compile -c constraints.txt

.PHONY: demo check test cluster lint format clean

demo: .venv/installed
	$(BIN)/python -m experiments.demo

# A file of tests shares what it builds, so that one process takes all of it.
PYTEST := $(BIN)/python -m pytest tests -q -n 2 --dist loadfile

check: lint
	$(PYTEST) -m 'not slow'

test: lint
	$(PYTEST)

# Each starts machines of its own: one after the other.
cluster: .venv/cluster
	$(BIN)/python -m pytest -q tests/pools -k cluster

lint: .venv/tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "Python %d.%d is too old: 3.11 or newer is needed; name one by \
	make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(INSTALL) --upgrade pip
	$(INSTALL) -e .
	$(BIN)/python -c 'import experiments.train'
	touch $@

.venv/tools: .venv/installed
	$(INSTALL) -e '.[test]'
	touch $@

.venv/cluster: .venv/tools
	$(INSTALL) -e '.[cluster]'
	touch $@

clean:
	rm -rf .venv *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
