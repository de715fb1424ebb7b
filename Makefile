# One command each; every target sets up what it needs, the virtual environment included.
# `make help` lists them from the comments behind `##`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready
PEERS := benchmarks/peers
PEERS_READY := $(PEERS)/.venv/.ready
BENCH = PYTHONPATH=$(CURDIR) $(BIN)/python -m benchmarks
# Most tests wait most of the time, so two cores have work for three.
TESTERS ?= 3
# Some questions have a script of their own: `make bench ONLY=priorities`.
ALONE = $(if $(ONLY),$(wildcard benchmarks/alone/$(ONLY).py))

# The packages are folders at the top of the checkout: the working directory must never be an
# import path, or `import producer` would work here and nowhere else.
export PYTHONSAFEPATH := 1

# Tests start workers by the hundred: without bytecode each of their processes would compile us anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test long check fmt screenshots bench bench-short bench-page bench-profile bench-peers bench-constraints faults up down docs constraints wheel-test setup clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## The main job from publish to trace, in one process without servers
	$(BIN)/taskstream demo

test: $(READY) ## Start the servers (running ones are used) and run all tests; ARGS="-k name" narrows
	$(BIN)/taskstream up --registry
	$(BIN)/python tests/run.py $(TESTERS) $(ARGS)

long: $(READY) ## Start the servers and run the tests that take minutes; ARGS="-k name" narrows
	$(BIN)/taskstream up
	$(BIN)/pytest -m long $(ARGS)

check: $(READY) ## Lint, formatting, types, direction of imports, links
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy src tests benchmarks/__main__.py benchmarks/pages.py benchmarks/profiles.py
	$(BIN)/lint-imports
	@broken="$$(find -L src/taskstream -maxdepth 1 -type l)"; \
		test -z "$$broken" || { echo "broken links: $$broken" >&2; exit 1; }

screenshots: $(READY) ## Take the pictures of every page of the dashboard, into docs/dashboard/
	$(BIN)/taskstream up --only kafka,cassandra,jaeger
	$(BIN)/pytest --override-ini python_files=screenshots.py tests/browser/screenshots.py

fmt: $(READY) ## Format the code and mend what the linter can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(READY) $(if $(ALONE),,$(BENCH_READY) $(PEERS_READY)) ## Measure taskstream, the bare loop and the peers; ONLY=name, ARGS="--help"
	$(BIN)/taskstream up
	$(if $(ALONE),PYTHONPATH=$(CURDIR) $(BIN)/python $(ALONE),$(BENCH) $(if $(ONLY),--only $(ONLY)) $(ARGS))

bench-short: $(READY) ## The same in a minute, with those peers that are installed
	$(BIN)/taskstream up --only kafka,cassandra
	$(BENCH) --short $(ARGS)

bench-page: $(READY) $(BENCH_READY) ## Write docs/benchmarks.md and its plots from the newest run's JSON
	PYTHONPATH=$(CURDIR) $(BIN)/python -m benchmarks.pages

bench-profile: $(READY) $(BENCH_READY) ## Record where publisher, parent and child of a drain spend their time
	$(BIN)/taskstream up --only kafka,cassandra
	PYTHONPATH=$(CURDIR) $(BIN)/python -m benchmarks.profiles $(ARGS)

bench-peers: $(PEERS_READY) ## Install the peers in an environment of their own, and the servers they need

bench-constraints: ## Resolve the peers anew and pin them in benchmarks/peers/constraints.txt
	rm -rf build/peers
	$(PYTHON) -m venv build/peers
	build/peers/bin/python -m pip install --quiet --requirement $(PEERS)/requirements.txt
	echo '# Exact versions of the peers. Written by `make bench-constraints`.' > $(PEERS)/constraints.txt
	build/peers/bin/python -m pip freeze >> $(PEERS)/constraints.txt

faults: $(READY) ## Every fault in full length, then every mutation; writes docs/reliability.md; ARGS="--help"
	$(BIN)/taskstream up --only kafka,cassandra
	PYTHONPATH=$(CURDIR) $(BIN)/python -m tests.support.faults $(ARGS)

up: $(READY) ## Start Kafka, Cassandra and Jaeger on this machine; twice is harmless
	$(BIN)/taskstream up

down: $(READY) ## Stop what `up` started; the data stays
	$(BIN)/taskstream down

docs: $(READY) ## Write the generated pages of docs/ and the boards for Grafana; with CI set, only check that they are current
	$(BIN)/python docs/generate.py $(if $(CI),--check)
	$(BIN)/python docs/boards.py $(if $(CI),--check)

constraints: ## Resolve .[dev] anew in an empty environment and pin it in constraints.txt
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet --editable '.[dev,bench]'
	echo '# Exact versions of all that .[dev,bench] installs. Written by `make constraints`.' > constraints.txt
	build/constraints/bin/python -m pip freeze --exclude-editable >> constraints.txt

wheel-test: $(READY) ## Build sdist and wheel, and try the wheel in an empty environment
	PYTHON=$(abspath $(BIN)/python) .ci/wheel_test.sh

setup: $(READY) ## Only create the virtual environment and install into it

clean: ## Remove the virtual environment, caches and builds (not the servers: `make down`)
	rm -rf $(VENV) $(PEERS)/.venv build dist src/*.egg-info .coverage
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A peer that can't be had is reported as missing by the bench, so neither step may fail the build.
$(PEERS_READY): $(PEERS)/requirements.txt $(PEERS)/constraints.txt
	@$(PEERS)/servers.sh || echo "no redis-server or rabbitmq-server: contenders will be missing" >&2
	$(PYTHON) -m venv $(PEERS)/.venv
	$(PEERS)/.venv/bin/python -m pip install --quiet --constraint $(PEERS)/constraints.txt \
		--requirement $(PEERS)/requirements.txt && touch $@ || \
		echo "the peers could not be installed: they will be missing" >&2

$(BENCH_READY): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "taskstream needs Python 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
