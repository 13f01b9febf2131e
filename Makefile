# `make test` and `make demo` need Python 3.11 or newer and make, nothing else: they make .venv themselves.
# Another environment: make test VENV=/path. Arguments for pytest: make test ARGS="-k copy -x" JOBS=1.

VENV   ?= .venv
ARGS   ?=
JOBS   ?= 3
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
            $$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
RUN    := $(VENV)/bin/python
# Keyed on the content, not on the time: a checkout changes times, and only a changed lock means another install.
STAMP  := $(VENV)/installed-$(shell cat requirements.lock pyproject.toml | cksum | tr ' ' '-')

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo demo-kafka test lint bench chaos lock packages clean
.DEFAULT_GOAL := help

help:           ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1  \2/p' $(MAKEFILE_LIST) | expand -t 4

demo: $(STAMP)  ## move a context between two throw-away servers, live
	$(RUN) migrate.py demo $(ARGS)

demo-kafka: $(STAMP)  ## the same through a real Kafka and Debezium (Java 17, Maven)
	$(RUN) migrate.py demo --kafka $(ARGS)

test: $(STAMP) packages  ## all tests; ARGS for pytest
	$(RUN) -m pytest -n $(JOBS) $(ARGS)

lint: $(STAMP)  ## style, types, and which package may import which
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

bench: $(STAMP) ## compare with other movers; ARGS for bench
	$(RUN) -m bench $(ARGS)

chaos: $(STAMP) ## long runs of one scenario: alarms, bouncer, bouncer_faults, lockstep, kafka_histories (ARGS="bouncer --rounds 20")
	$(RUN) -m tests.chaos $(ARGS)

lock:           ## resolve both requirements.lock anew (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-header \
	  --extra dev -p 3.11 pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-header -c requirements.lock \
	  --extra kafka --extra metrics --extra asyncio -p 3.11 pyproject.toml -o deploy/requirements.lock

packages: $(STAMP)
	@sh tests/packages.sh
	@$(RUN) -m tests.postgres

clean:          ## remove the environment and all caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP):
	@test -n "$(PYTHON)" || { echo "needed: Python 3.11 or newer with venv (Debian: python3-venv); or make PYTHON=/path/to/python3" >&2; exit 1; }
	$(RUN) -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --quiet --require-hashes -r requirements.lock
	$(RUN) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/installed-* && touch $@
