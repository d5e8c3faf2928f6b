# make demo: the main job on the embedded corpus. make test: everything CI runs.
PYTHON ?= python3
BIN := .venv/bin
# Large pages: page faults cost a small model about a fifth of its time without.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: demo test lint format clean

demo: .venv/installed
	$(BIN)/python -m experiments.demo

test: lint
	$(BIN)/python -m pytest tests -q -n 2 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	  "Python %d.%d is too old: 3.11 or newer is needed; name one by \
	make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet \
	  -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
