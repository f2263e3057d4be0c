# Tidings: `make` says what there is. Everything is installed into .venv and build/; nothing else on the machine is touched,
# but for Debian's Chromium, which `make test` installs for the browser test when it may (root, apt).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Compiled by pip where there are a C compiler and Python's headers.
KERNEL := app/domain/_kernel.c app/domain/_fold.c app/domain/_share.c app/domain/_visits.c app/domain/_items.c app/domain/_neighbours.c app/domain/_ranked.c app/destinations/_list_json.c
# Tests run side by side, most of them waiting for something; JOBS=1 (REST_JOBS=1) runs them one after another, in order.
JOBS := 3
# A test on Apache Kafka has up to three brokers and three workers of its own.
REST_JOBS := 2
PYTEST := $(BIN)/python -m pytest --dist worksteal --numprocesses
# The linter of Protobuf schemas, from npm; pinned, for a newer one may find more.
BUF_VERSION := 1.75.0
BUF := build/buf/node_modules/.bin/buf
PROTOS = $(shell cd proto && find tidings -name '*.proto' | sort)

.PHONY: help setup run test lint proto proto-check proto-baseline kafka test-kafka test-long test-rest chaos simulate fuzz bench bench-peers browser clean

help: ## Say what there is.
	@echo "Tidings: a live profile and product recommendations for every email subscriber."
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-15s %s\n", $$1, $$2}'
	@echo
	@echo "See it: make run. Change it: CONTRIBUTING.md."

setup: $(READY) ## Install everything into .venv (Python 3.11 to 3.13; a minute or two).
	@$(BIN)/python -m app.domain.kernel
	@echo "ready: $(BIN)/tidings --help"

# Again when pyproject.toml or the source of an extension has changed. The first Python that will do: PYTHON=..., or the newest that is installed.
$(READY): pyproject.toml $(KERNEL) app/domain/_wire.h
	@python=""; for candidate in $${PYTHON:-} python3.13 python3.12 python3.11 python3; do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "Tidings needs Python 3.11, 3.12 or 3.13: install one, or name it with make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if [ ! -x $(BIN)/python ] || ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  echo "==> $(VENV), with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV) || { echo "$$python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@echo "==> installing Tidings and what it needs"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[dev]' \
	  | awk '!/^Requirement already|^  / {print; fflush()}'
	@touch $@

# PLATFORM=klaviyo (or another kind) shows a stand-in for that e-mail platform instead of the inbox.
run: $(READY) ## See it: a broker, a worker, a shop and an inbox on this machine, and a page that shows a click reach the email.
	@exec $(BIN)/tidings demo $(if $(PLATFORM),--platform $(PLATFORM))

test: $(READY) browser ## Unit, contract, agents, simulation, and e2e on the embedded broker.
	@$(BIN)/python -m app.domain.kernel
	$(PYTEST) $(JOBS) -m "not kafka and not long"

test-long: $(READY) ## What takes long: the recommender's bars on whole logs, 10^5 random lists against the rules.
	$(PYTEST) $(REST_JOBS) -m "long and not kafka"

test-kafka: $(READY) ## The end-to-end tests on Apache Kafka (Java 17 and Maven).
	$(PYTEST) $(REST_JOBS) -m kafka

# SEED is that of the first run. Full disks take root, for a mount; wrong clocks a C compiler: without them these faults are left out.
chaos: $(READY) ## Three brokers and three workers under a seeded schedule of faults (SEED=1, RUNS=1), compared with the plain fold.
	$(BIN)/python -m tests.e2e.chaos --seed $(or $(SEED),1) --runs $(or $(RUNS),1)

# SEED is that of the first run; a failure prints its own, and the last steps. FLAW breaks a rule of the worker (flaws.py), or "each".
simulate: $(READY) ## The fleet without a broker under seeded crashes, zombies and repeats (SEED=1, RUNS=1000), compared with the plain fold.
	$(BIN)/python -m tests.simulation --seed $(or $(SEED),1) --runs $(or $(RUNS),$(if $(SEED),1,1000)) $(if $(FLAW),--flaw $(FLAW))

# Most of a test on Apache Kafka is waiting: what takes long goes on meanwhile.
test-rest: $(READY)
	$(PYTEST) $(REST_JOBS) -m "kafka or long"

# atheris (libFuzzer) has wheels for Linux on x86-64 alone; elsewhere decoders get the tests' own mutations. Half of the time is for HTTP.
SECONDS := 60
fuzz: $(READY) ## Noise against every decoder and every route (SECONDS=60).
	@$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

lint: $(READY) ## Style, the import rule, types.
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

proto: $(READY) ## Generate the Python code of the schemas anew, beside them.
	cd proto && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. $(PROTOS)

proto-check: $(READY) $(BUF) ## Fail when generated code is stale, a schema is untidy, or a change breaks the wire.
	@rm -rf build/proto && mkdir -p build/proto
	@cd proto && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=../build/proto --pyi_out=../build/proto $(PROTOS)
	@diff -r -q -x __pycache__ -x __init__.py -x '*.proto' build/proto/tidings proto/tidings \
	  || { echo "generated code differs from the schemas: run make proto, and commit the outcome" >&2; exit 1; }
	$(BUF) lint
	@BUF=$(BUF) $(BIN)/python proto/check_wire.py

proto-baseline: $(BUF) ## Make the schemas as they are the ones that later changes must not break (at a release).
	$(BUF) build -o proto/baseline.binpb

# --ignore-scripts: the program comes inside the package; nothing is to be fetched from elsewhere.
$(BUF): Makefile
	@command -v npm >/dev/null || { echo "the schema checks need npm: on Debian, apt-get install npm" >&2; exit 1; }
	@echo "==> buf $(BUF_VERSION), into build/buf"
	@mkdir -p build/buf && npm install --prefix build/buf --no-save --no-audit --no-fund --ignore-scripts --loglevel=error @bufbuild/buf@$(BUF_VERSION)
	@touch $@

kafka: $(READY) ## A local Apache Kafka in the foreground (Java 17 and Maven; PORT=9092, NODES=1).
	@exec $(BIN)/python -m tests.brokers.apache_kafka --port $(or $(PORT),9092) --nodes $(or $(NODES),1)

bench: $(READY) bench-peers ## Measure on Apache Kafka beside other systems: prints tables, writes build/bench.json and build/bench.png.
	@mkdir -p build
	$(BIN)/python -m tests.bench

bench-peers: $(READY) ## Install the other systems of `make bench` into build/bench-peers (1.5 GB; Java needs the JDK).
	@$(BIN)/python -m tests.bench.peers

browser:
	@if ! command -v chromedriver >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "==> Debian's Chromium, for the browser test"; \
	  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium chromium-driver; } >/dev/null \
	    || echo "Chromium could not be installed: the browser test will be skipped" >&2; \
	fi

clean: ## Remove what was installed and built here.
	rm -rf $(VENV) build *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f $(KERNEL:.c=.*.so)
