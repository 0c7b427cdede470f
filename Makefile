# Every target sets itself up: python3, make and a C toolchain are all it needs.
PYTHON ?= python3
BIN := .venv/bin
SETUP := .venv/.installed
# All of them but sentence-transformers, whose gigabytes have a lock of their own.
EXTRAS := pipeline local openai gcs stream kafka pubsub serve report
MODELS := tests/engines/sentence_transformers.lock
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header
# What a query server needs besides the reader: its web server, a bucket, and models for questions.
READER := serve gcs local openai

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast check torture bench lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(SETUP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(SETUP) ## embed Python's own documentation and search it at every tier
	$(BIN)/python -m pipelines.demo

test: $(SETUP) ## run every test, with the real components they need
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not long"

test-fast: $(SETUP) ## run the tests that take less than three minutes in all
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not engine and not slow and not long"

check: $(SETUP) ## lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

torture: $(SETUP) ## kill, refuse and race at every point there is: hours; seeds are printed
	$(BIN)/python -m tests.torture
	$(BIN)/python -m tests.torture.mutations
	$(BIN)/python -m pytest -n auto -m long

bench: $(SETUP) ## measure every claim of speed and memory, at sizes for a first look
	$(BIN)/python -m benchmarks

lock: ## write the lock files anew from pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) $(EXTRAS:%=--extra %) --group dev pyproject.toml -o requirements.lock
	$(COMPILE) --no-emit-package triton --constraint requirements.lock $(MODELS:.lock=.in) -o $(MODELS)
	$(COMPILE) --constraint requirements.lock $(EXTRAS:%=--extra %) pyproject.toml -o deploy/pipeline.lock
	$(COMPILE) --constraint requirements.lock $(READER:%=--extra %) pyproject.toml -o deploy/reader.lock
	echo hatchling | $(COMPILE) --constraint requirements.lock - -o deploy/build.lock

clean: ## remove what the other targets made
	rm -rf .venv .cache demo-store
