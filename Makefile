# Everything here sets itself up: all that is needed is make and Python 3.11 or newer.

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11 python,$(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
BIN := .venv/bin
CODE := core api dispatcher worker client cli examples
SECONDS ?= 600
SEED ?=
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo up test check format bench faults clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: .venv/demo ## run the whole system on real data, kill a worker in the middle, and count
	@$(BIN)/coordinator demo $(ARGS)

up: .venv/demo ## run the whole system until Ctrl-C
	@$(BIN)/coordinator up $(ARGS)

test: .venv/dev ## run all tests, on real Redis and with real processes; ARGS goes to pytest
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(ARGS)

check: .venv/dev ## lint, format, types, layers, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(foreach room,$(CODE),$(room)/coordinator$(if $(filter examples,$(room)),_examples)) bench tests
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: .venv/dev ## format and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: .venv/dev ## measure throughput, latency and CPU per job; ARGS=--json for programs
	@$(BIN)/python bench/run.py $(ARGS)

faults: .venv/dev ## a campaign of injected faults, then overload: SECONDS=600 SEED=n
	$(BIN)/python -m pytest -q tests/faults/test_campaign.py -s --timeout=0 --campaign-seconds=$(SECONDS) $(if $(SEED),--campaign-seed=$(SEED)) $(ARGS)
	$(BIN)/python tests/faults/overload.py --seconds 60

clean: ## remove what the other targets made
	rm -rf .venv .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.venv/bin/python:
	$(if $(PYTHON),,$(error There is no Python 3.11 or newer on PATH; install one, or name it: make PYTHON=...))
	@$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing what the demo needs into .venv …"
	@$(BIN)/pip install -q -c constraints.txt -e '.[demo]'
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml constraints.txt
	@echo "Installing what the checks need into .venv …"
	@$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch .venv/demo $@
