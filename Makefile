# `make` lists the targets. Everything is installed into .venv; nothing else on the machine is touched.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup train-env demo test test-slow test-inbox test-console test-docker lint format quality bench drill-alerts mutants images compose-up compose-down compose-plugin clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup:  ## Install everything into .venv (cached: the second time is immediate)
	@command -v $(PYTHON) >/dev/null || { echo "setup: no $(PYTHON) found. Next: install Python 3.11 or newer, or name one: make $@ PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) infra/runtime/setup.py $(SETUP_ARGUMENTS)

train-env:  ## Add what training the full ranker needs to .venv (5 GB, cached like setup)
	@$(MAKE) --no-print-directory setup SETUP_ARGUMENTS="--requirements train"

demo: setup  ## Two regions end to end, the active one wiped in the middle (DATA=directory for real events)
	@$(BIN)/region-sim run wipe-active --backend process --out runs/demo --set load.source=replay --set load.searches_per_second=30 $(if $(DATA),--set "load.data=$(DATA)")

test: setup  ## Unit, contract, integration, end-to-end and style tests
	@$(BIN)/python -m tests.parts

test-docker: setup  ## What needs images of Kafka and etcd: tests that start containers (make images builds them)
	@$(BIN)/pytest -m docker

test-console: setup  ## The console beside two real regions, one of which dies, and open for two hours' worth of changes
	@$(BIN)/pytest -s tests/e2e/test_console_failover.py

test-inbox: setup  ## The inbox: its broker killed, and its region with records that nobody else has (2 minutes)
	@$(BIN)/pytest -m slow tests/integration/test_inbox.py tests/e2e/test_inbox_failover.py

test-slow: setup  ## Tests in virtual time that take more than some seconds each
	@$(BIN)/pytest -m slow tests/unit

lint: setup  ## Format, lint, types and import direction
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup  ## Rewrite the sources in the project's format
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

quality: setup  ## Rank every search of a log and print the figures by quarter (DATA=directory MODEL=folder LAST=searches)
	@$(BIN)/meridian quality $(if $(DATA),--data $(DATA)) $(if $(MODEL),--model $(MODEL)) $(if $(LAST),--last $(LAST))

drill-alerts: setup  ## A Prometheus beside real drills: nothing fires before, the right alerts do after (20 minutes)
	@$(BIN)/pytest -s -m slow tests/e2e/test_alerts_in_drills.py

mutants: setup  ## Plant known bugs, one at a time: the checkers of drills must catch each of them
	@$(BIN)/python -m tests.mutants

bench: setup  ## Events a second through each stage, and where the time goes
	@$(BIN)/python -m bench

images: setup  ## Build the images of the deployment in containers, where none can be pulled
	@$(BIN)/python -m infra.docker.images $(foreach name,$(ONLY),--only $(name))

compose-up: setup  ## Two regions and a witness in containers (PROFILE=observability adds Prometheus and the console)
	@$(BIN)/python -m infra.docker.compose up $(if $(filter gpu,$(PROFILE)),,--profile core) $(foreach name,$(PROFILE),--profile $(name))

compose-down: setup  ## End them; the data stays (VOLUMES=1: nothing stays)
	@$(BIN)/python -m infra.docker.compose down $(if $(VOLUMES),--volumes)

compose-plugin: setup  ## Build Docker Compose 2 for this user, where there is only 1.29
	@$(BIN)/python -m infra.docker.compose plugin

clean:  ## Remove the environment, caches and the regions' files under var/
	rm -rf .venv var .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
