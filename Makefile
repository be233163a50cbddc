# `make demo`, `make quick` and `make test`. All set up .venv on first use and stay quiet afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# The rooms of what the last commit changed, of what has changed since, and of new files: rnafold/ROOM/.. or tests/ROOM/..
ROOMS ?= $(shell { git diff --name-only HEAD~1; git ls-files --others --exclude-standard; } 2>/dev/null \
	| sed -nE 's,^(rnafold|tests)/([a-z]+)/.*,\2,p' | sort -u)

.PHONY: demo test suite faults quick lint setup pictures weights clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   train, predict, check, score and report on the embedded data (demo/)"
	@echo "make quick  ruff, mypy --strict, the map and the fast tests of the rooms that changed (or ROOMS=\"scoring data\")"
	@echo "make test   ruff, mypy --strict and the test suite"
	@echo "make faults the reliability suite in full: kills, damage, malformed files (half an hour; docs/reliability.md)"
	@echo "make weights DATA=DIR   train all that ships (loop judge, ranker, jury, network), measure it, write the model card"
	@echo "make pictures   docs/pictures, from the demo and headless Chromium"
	@echo "make setup  only the environment (.venv)"

$(STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (first use, or the dependencies changed)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; set PYTHON=..."; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(STAMP)

setup: $(STAMP)

demo: $(STAMP)
	@$(BIN)/python -m rnafold demo --out demo

pictures: $(STAMP)
	@$(BIN)/python scripts/make_pictures.py

weights: $(STAMP)
	@test -n "$(DATA)" || { echo "make weights DATA=DIR: the folder with train_sequences.csv etc. is needed"; exit 2; }
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/train_loops.py --data "$(DATA)"
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/train_ranker.py --data "$(DATA)" --folds runs/folds --jobs $$(nproc)
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/train_weights.py --data "$(DATA)"

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

quick: lint
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" \
		tests/test_architecture.py $(wildcard $(ROOMS:%=tests/%))

faults: $(STAMP)
	@$(ONE_THREAD) $(BIN)/python -m tests.faults

# mypy needs one core for half a minute and the tests begin with collecting: side by side they fill two cores
test: $(STAMP)
	@$(MAKE) --no-print-directory -j 2 lint suite

suite: $(STAMP)
	@$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal

clean:
	rm -rf $(VENV) demo build dist *.egg-info .cache .mypy_cache .ruff_cache .pytest_cache
