# make run serves on http://127.0.0.1:8080 with an embedded PostgreSQL. make help lists all targets.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes

# The oldest supported PostgreSQL installed on this machine, for a second run of the tests that depend on its version.
MACHINE_POSTGRES ?= $(firstword $(sort $(patsubst %/initdb,%,$(wildcard /usr/lib/postgresql/1[5-8]/bin/initdb))))
# The longest modules come first, so that no process is alone with one at the end.
OTHER_POSTGRES_TESTS := tests/faults/test_backup.py tests/faults/test_embedded_database.py tests/schema \
	tests/concurrency tests/sql

# Tests wait more than they compute: hence four processes on two cores, each with its own PostgreSQL. A module's tests
# share fixtures and stay in one process. In order of name, the long tests in faults do not come last.
PROCESSES ?= 4
# Python keeps what pytest makes of the modules, for the second round.
PYTEST := PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest -n $(PROCESSES) --dist loadscope --no-loadscope-reorder

# The names of all dependencies, without the ranges of pyproject.toml.
NEWEST = $(shell sed -n 's/^    "\([a-z][a-z0-9-]*\(\[binary\]\)\{0,1\}\)>=.*/\1/p' pyproject.toml)

# Duration of make soak, make soak-ha, make agree and make fuzz, in seconds.
SECONDS ?= 600

# Number of events that make follow reads.
EVENTS ?= 10000000

# Options of psql. Not from the environment, where PSQL may be the name of a program.
PSQL =

# Options of pytest for make test-engine: ENGINE="-k holds".
ENGINE ?=

# Benchmark options: make bench BENCH="--seconds 1". BENCH=--help lists them.
BENCH ?=

.PHONY: help install run psql check test test-engine package canary soak soak-ha follow agree fuzz bench sql generate \
	lint clients console screenshots format lock clean

help:  ## list all targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

install: $(VENV)/installed  ## install the pinned dependencies into .venv

run: install  ## serve on http://127.0.0.1:8080 (settings such as PORT: server.py --help)
	@$(VENV)/bin/python server.py

psql: install  ## open psql as role wallet_ops, or with options of psql: make psql PSQL="-U anna"
	@$(VENV)/bin/python server.py psql $(PSQL)

check: install  ## check the ledger of the embedded database
	@$(VENV)/bin/python server.py check

test: $(VENV)/installed-dev  ## run all tests on their own PostgreSQL, except those of make console
	$(PYTEST) --ignore tests/console
ifneq ($(MACHINE_POSTGRES),)
	WALLET_POSTGRES_BIN=$(MACHINE_POSTGRES) $(PYTEST) -m "not pooled and not once" $(OTHER_POSTGRES_TESTS)
endif

test-engine: $(VENV)/installed-dev  ## prove the server of DATABASE_URL, as its superuser: what holds there, what is refused
	@$(VENV)/bin/python -m tests.engine $(ENGINE)

# setuptools would put what is left in build/ into the package, too.
package: $(VENV)/installed-dev  ## build the package into dist/, and try it in an empty environment
	@rm -rf build dist
	@$(VENV)/bin/python -m pip --disable-pip-version-check --quiet wheel --no-deps --wheel-dir dist .
	@$(VENV)/bin/python -m tests.package

canary:  ## run all tests on the newest versions of all dependencies, installed into .canary
	$(PYTHON) -m venv --clear .canary
	.canary/bin/python -m pip --quiet install $(NEWEST)
	touch .canary/made .canary/installed .canary/installed-dev
	$(MAKE) test VENV=.canary

soak: $(VENV)/installed-dev  ## verify payments under random faults, for SECONDS=600 (with HAProxy if installed)
	@$(VENV)/bin/python -m tests.faults.soak --seconds $(SECONDS)

soak-ha: $(VENV)/installed-dev  ## the same on a cluster as deploy/ha makes it (needs etcd, HAProxy, PostgreSQL 15)
	@$(VENV)/bin/python -m tests.ha.soak --seconds $(SECONDS)

follow: $(VENV)/installed-dev  ## follow EVENTS=10000000 events of the feed while PostgreSQL is killed, and compare with the tables
	@$(VENV)/bin/python -m tests.faults.follow --events $(EVENTS)

agree: $(VENV)/installed-dev  ## compare the service with its /openapi.json by schemathesis, for SECONDS=600
	@$(VENV)/bin/python -m tests.http.agreement --seconds $(SECONDS)

fuzz: $(VENV)/installed-dev  ## send malformed HTTP for SECONDS=600 and check the answers: valid, no 500, no hang
	@$(VENV)/bin/python -m tests.http.fuzz --seconds $(SECONDS)

bench: $(VENV)/installed-dev  ## run the benchmark in about 6 minutes; writes a table and a plot in .bench (needs wrk)
	@$(VENV)/bin/python -m tests.bench $(BENCH)

sql: install  ## write dist/wallet.sql: tables and functions as one file for psql (WALLET_ROLE_PREFIX applies)
	@$(VENV)/bin/python -m tools.onefile

generate: $(VENV)/installed-dev  ## write db/schema.sql, docs/errors.md, and the OpenAPI files of wallet_api/http
	@$(VENV)/bin/python -m tools.generate

lint: $(VENV)/installed-dev  ## check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache

clients: $(VENV)/installed-dev  ## lint the OpenAPI document, make a TypeScript client from it and use it (needs npm)
	@command -v npm >/dev/null || { echo "make clients needs npm, and Node.js 20.19 or later" >&2; exit 1; }
	@mkdir -p .clients
	@cp tests/clients/*.json tests/clients/*.yaml tests/clients/*.ts .clients
	@cd .clients && npm ci --ignore-scripts --no-audit --no-fund
	@$(VENV)/bin/python -m tests.clients .clients

# A browser computes more than it waits: hence two processes.
console: $(VENV)/installed-dev  ## test the console in Chromium, also for accessibility (needs npm and chromium)
	@command -v npm >/dev/null || { echo "make console needs npm" >&2; exit 1; }
	@command -v chromium >/dev/null || { echo "make console needs chromium, Debian's package" >&2; exit 1; }
	@mkdir -p .console
	@cp tests/console/*.json .console
	@cd .console && npm ci --ignore-scripts --no-audit --no-fund
	$(PYTEST) -n 2 tests/console

screenshots: $(VENV)/installed-dev  ## write pictures of the console into docs/screenshots and .screenshots (needs chromium)
	@command -v chromium >/dev/null || { echo "make screenshots needs chromium, Debian's package" >&2; exit 1; }
	@$(VENV)/bin/python -m tests.console.screenshots

format: $(VENV)/installed-dev  ## fix style and formatting
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

lock:  ## regenerate the lock files from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra embedded pyproject.toml -o requirements-embedded.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra tracing pyproject.toml -o requirements-tracing.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra dev pyproject.toml -o requirements-dev.lock

clean:  ## remove generated files, except the data in .wallet
	rm -rf $(VENV) .canary build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench .clients \
		.console .screenshots

# --clear discards an incomplete .venv, left by an interruption or by a missing python3-venv on Debian.
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
