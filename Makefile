# make run    the lab with the quick profile, from nothing to a report
# make test   lint, types, layers and tests: what CI runs
# make cover  which lines of t2v_models the fast tests run: 90 % at least
# make lock   pin the newest versions that pyproject.toml allows (needs uv)

PYTHON ?= python3
BIN := .venv/bin
# a file stays in one process: what its tests share is made once
BY_FILE := --dist loadfile --no-loadscope-reorder
# what is compiled once is read by the dozens of processes that the tests start
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := run
# checking types from nothing is a minute of one process, which tests can use the other core for
TOGETHER := $(MAKE) --no-print-directory --jobs=2
.PHONY: run test cover lint fast lock all-tests fast-tests

run: .venv/installed
	$(BIN)/t2v run --profile quick

test: .venv/installed
	$(TOGETHER) lint all-tests

fast: .venv/installed
	$(TOGETHER) lint fast-tests

all-tests:  # three for two cores: tests of servers and workers wait half of their time
	$(BIN)/pytest -n 3 $(BY_FILE)

fast-tests:
	$(BIN)/pytest -n 2 $(BY_FILE) -m "not slow"

cover: .venv/installed  # not in `make test`: counting lines makes tests dearer by a half
	$(BIN)/pytest -n 2 $(BY_FILE) -m "not slow" --cov --cov-report=term:skip-covered --cov-fail-under=90

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/installed: requirements.lock pyproject.toml
	@echo "installing into .venv: about 4 minutes the first time"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --upgrade -o requirements.lock
