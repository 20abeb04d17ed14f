# make run: the service on http://127.0.0.1:8080 with a PostgreSQL of its own. make help lists the rest.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes

# A PostgreSQL that is installed on this machine, for a second round of those tests that depend on its version: the
# oldest one that is supported.
MACHINE_POSTGRES ?= $(firstword $(sort $(patsubst %/initdb,%,$(wildcard /usr/lib/postgresql/1[5-8]/bin/initdb))))
OTHER_POSTGRES_TESTS := tests/sql tests/schema tests/concurrency tests/faults/test_embedded_database.py \
	tests/faults/test_backup.py

# Tests wait more than they compute: three processes on two processors, each with a PostgreSQL of its own. Those of a
# module stay together, as they share fixtures. In the order of their names the long ones, of faults, do not come last.
PROCESSES ?= 3
PYTEST := $(VENV)/bin/python -m pytest -n $(PROCESSES) --dist loadscope --no-loadscope-reorder

# How long make soak causes faults, make agree asks, and make fuzz sends, in seconds.
SECONDS ?= 600

# Options of the benchmark: make bench BENCH="--seconds 1". BENCH=--help lists them.
BENCH ?=

.PHONY: help install run psql check test soak agree fuzz bench errors lint format lock clean

help:  ## list these commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

install: $(VENV)/installed  ## make .venv with the pinned dependencies

run: install  ## serve on http://127.0.0.1:8080 (PORT and other settings: server.py --help)
	@$(VENV)/bin/python server.py

psql: install  ## open psql on the running embedded database, as the role wallet_ops
	@$(VENV)/bin/python server.py psql

check: install  ## prove the books of the embedded database
	@$(VENV)/bin/python server.py check

test: $(VENV)/installed-dev  ## run all tests, on a PostgreSQL of their own
	$(PYTEST)
ifneq ($(MACHINE_POSTGRES),)
	WALLET_POSTGRES_BIN=$(MACHINE_POSTGRES) $(PYTEST) -m "not pooled" $(OTHER_POSTGRES_TESTS)
endif

soak: $(VENV)/installed-dev  ## payments under random faults, each proved, for SECONDS=600 (with HAProxy if installed)
	@$(VENV)/bin/python -m tests.faults.soak --seconds $(SECONDS)

agree: $(VENV)/installed-dev  ## have schemathesis compare the service with its /openapi.json, for SECONDS=600
	@$(VENV)/bin/python -m tests.http.agreement --seconds $(SECONDS)

fuzz: $(VENV)/installed-dev  ## send the service bytes that are hardly HTTP, for SECONDS=600: valid answers, no 500, no hanging
	@$(VENV)/bin/python -m tests.http.fuzz --seconds $(SECONDS)

bench: $(VENV)/installed-dev  ## measure on this machine, some 5 minutes: a table, and a plot in .bench (needs wrk)
	@$(VENV)/bin/python -m tests.bench $(BENCH)

errors: install  ## write docs/errors.md from the registries of refusals
	@$(VENV)/bin/python -m wallet_api.http.refusals > docs/errors.md

lint: $(VENV)/installed-dev  ## check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/installed-dev  ## put the style right
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

lock:  ## write the lock files anew from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra embedded pyproject.toml -o requirements-embedded.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra tracing pyproject.toml -o requirements-tracing.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra dev pyproject.toml -o requirements-dev.lock

clean:  ## remove what the commands above made, the data in .wallet excepted
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench

# Cleared first: one that was interrupted, or failed because Debian's python3-venv was missing, is of no use.
$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The wallet needs Python 3.11 or later: make PYTHON=python3.13 ...")'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/installed: requirements-embedded.lock | $(VENV)/made
	@echo "Installing the dependencies into $(VENV)"
	@$(PIP) -r requirements-embedded.lock
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock | $(VENV)/made
	@echo "Installing the dependencies and the tools into $(VENV)"
	@$(PIP) -r requirements-dev.lock
	@touch $@
