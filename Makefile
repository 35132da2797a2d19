# Two commands do everything: `make run` shows the main job on an embedded scene, `make test` passes the tests.
# Both set up what they need first; a second call starts in seconds.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up
# One thread for each test process: OpenMP's spinning collapses when the cores are shared.
TEST_ENV := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
ARGS ?=

.PHONY: help setup run test quick check bench bench-train test-gpu starter edge picture lint types imports format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

setup: $(STAMP) ## make .venv with everything; may be repeated
	@PYTHON=$(PYTHON) scripts/setup packages

$(STAMP): pyproject.toml scripts/setup
	@PYTHON=$(PYTHON) scripts/setup all
	@touch $@

run: setup ## the main job on the embedded scene, with a private broker and a real subscriber
	@$(BIN)/streamav demo $(ARGS)

test: setup ## lint, types, import contracts and every test, the slow ones included
	@$(MAKE) --no-print-directory check
	@$(TEST_ENV) $(BIN)/python -m pytest -q -m "not (gpu or hardware or bench)" $(ARGS)

quick: setup ## the quick loop: unit tests and what needs no more than a second
	@$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 -m "not (slow or gpu or hardware or bench or broker or audio_device or rtsp)" $(ARGS)

check: lint types imports ## format, lint, types, import contracts

lint: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: setup
	@$(BIN)/mypy

imports: setup
	@$(BIN)/lint-imports --no-cache

format: setup ## put the code into its one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## time every network and the whole way; ARGS="--profile starter,paper --json"
	@$(BIN)/streamav bench $(ARGS)

bench-train: setup ## time a training step against plain eager float32; ARGS="--full", "--accuracy", "--device cuda", "--json"
	@PYTHONPATH=tests $(BIN)/python -m tests.bench.bench_train $(ARGS)

picture: setup ## draw docs/run.svg, the picture in the README, from a run
	@$(BIN)/streamav demo 2>&1 | $(BIN)/python scripts/record docs/run.svg

starter: setup ## make the model starter anew; DATA=folder with index.csv, sounds and photos; see docs/log/profiles.md for how long
	@$(BIN)/python -m streamav.training.starter.profiles starter --data $(DATA) --work runs/profiles --out streamav/models/starter $(ARGS)

edge: setup ## make the model edge anew; DATA as above, with the public encoders in the folder weights beside it
	@$(BIN)/python -m streamav.training.starter.profiles edge --data $(DATA) --work runs/profiles --out streamav/models/edge $(ARGS)

test-gpu: setup ## what to run on a machine with an NVIDIA GPU
	@$(TEST_ENV) $(BIN)/python -m pytest -q -m gpu $(ARGS)

clean: ## remove what was built, keep the downloads of pip
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
