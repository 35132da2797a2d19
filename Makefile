# Two commands do everything: `make run` shows the main job on an embedded scene, `make test` runs all checks and tests.
# Both install what they need first, `make run` much less than `make test`. A second call starts within seconds.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up
# What `make run` needs, a part of it:
RUN_STAMP := $(VENV)/.set-up-run
# One thread for each test process: OpenMP threads that wait by spinning slow each other down when processes share the cores.
# Python keeps what it compiles, whatever the environment says: pytest rewrites every test file, and many tests start Python again.
TEST_ENV := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE PYTHONDONTWRITEBYTECODE=
ALL := -m "not (gpu or hardware or bench)"
ARGS ?=

.PHONY: help setup run test quick check bench bench-train bench-view bench-cluster docs faults audit fuzz mutate soak test-homeassistant test-brokers test-gpu starter edge picture lint types imports format clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

setup: $(STAMP) ## install system packages, .venv and all Python packages; may be repeated
	@PYTHON=$(PYTHON) scripts/setup packages

$(STAMP): pyproject.toml scripts/setup
	@PYTHON=$(PYTHON) scripts/setup all
	@touch $@ $(RUN_STAMP)

$(RUN_STAMP): pyproject.toml scripts/setup
	@PYTHON=$(PYTHON) scripts/setup run
	@touch $@

run: $(RUN_STAMP) ## show the main job on the embedded scene, with a private broker and a real subscriber
	@$(BIN)/streamav demo $(ARGS)

# Tests run in two processes, a file in one of them: its fixtures are made once, and its tests never run beside each other. Whole programs
# mostly wait, so two at a time take little more than half; they share no port, folder, broker, sound server or cluster.
test: setup ## check lint, types and import contracts, and run all tests, the slow ones too
	@$(MAKE) --no-print-directory check
	@$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ALL) tests/architecture tests/unit $(ARGS)
	@$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ALL) tests/integration $(ARGS)

quick: setup ## run the fast tests only (no broker, audio device, RTSP server, browser or GPU), in one to two minutes
	@$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --hypothesis-profile=quick -m "not (slow or gpu or hardware or bench or broker or audio_device or rtsp or browser)" $(ARGS)

check: lint types imports ## check format, lint, types and import contracts

lint: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: setup
	@$(BIN)/mypy

imports: setup
	@$(BIN)/lint-imports --no-cache

format: setup ## format the code and apply ruff's automatic fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## time every network and the way from a segment to its events; ARGS="--profile starter,paper --json"
	@$(BIN)/streamav bench $(ARGS)

bench-train: setup ## time a training step and compare it with plain eager float32; ARGS="--full", "--accuracy", "--device cuda", "--json"
	@PYTHONPATH=tests $(BIN)/python -m tests.bench.bench_train $(ARGS)

docs: setup ## build the site of the documentation in build/site; a wrong link is an error
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html; with its search: $(BIN)/python -m http.server -b 127.0.0.1 -d build/site"

picture: setup ## photograph the live page on the embedded scene for the README; needs Chromium
	@$(BIN)/python scripts/picture docs/view.png

bench-view: setup ## measure what the live page and ten viewers cost the run
	@$(BIN)/python -m tests.bench.bench_view $(ARGS)

faults: setup ## measure what faults of broker and process cost, on a real Mosquitto; ARGS="--short" for a few of each
	@PYTHONPATH=tests $(BIN)/python -m tests.bench.faults $(ARGS)

mutate: setup ## read 1000 damaged media files to segments; ARGS="--seed 417" repeats one
	@PYTHONPATH=tests $(BIN)/python -m tests.bench.mutate $(ARGS)

soak: setup ## an hour of six sources with faults throughout; ARGS="--minutes 10" for less
	@PYTHONPATH=tests $(BIN)/python -m tests.bench.soak $(ARGS)

bench-cluster: setup ## kill, freeze and add nodes of a local Ray cluster; ARGS="--files 4 --streams 2" for a small machine
	@PYTHONPATH=tests $(BIN)/python -m tests.bench.cluster $(ARGS)

starter: setup ## train the model starter again; DATA=folder with index.csv, sounds and photos; how long it takes: docs/log/profiles.md
	@$(BIN)/python -m streamav.training.starter.profiles starter --data $(DATA) --work runs/profiles --out streamav/models/starter $(ARGS)

edge: setup ## train the model edge again; DATA as for starter; the public encoders must be in the folder `weights` beside DATA
	@$(BIN)/python -m streamav.training.starter.profiles edge --data $(DATA) --work runs/profiles --out streamav/models/edge $(ARGS)

audit: setup ## look for known vulnerabilities in the dependencies, in the kept advisories and in a live database where one is reachable
	@$(BIN)/python scripts/audit.py

fuzz: setup ## fuzz what comes from outside, guided by coverage (atheris); ARGS="--seconds 60 commands toml"
	@PYTHONPATH=tests $(BIN)/python -m tests.bench.fuzz $(ARGS)

# Home Assistant needs Python 3.13 and many packages of its own (minutes), so it is no part of `make test`.
HA_VERSION ?= 2025.4.4
HA_VENV ?= build/homeassistant-$(HA_VERSION)

test-homeassistant: setup ## load streamav into a real Home Assistant; HA_PYTHON=python3.13 HA_VERSION=2025.4.4
	@scripts/homeassistant $(HA_VENV) $(HA_VERSION) $(HA_PIP)
	@STREAMAV_HOMEASSISTANT=$(abspath $(HA_VENV)) $(TEST_ENV) $(BIN)/python -m pytest -q -m homeassistant tests $(ARGS)

# Brokers beside Mosquitto need a minute to start, so they are no part of `make test`. Debian: ejabberd, rabbitmq-server. npm: aedes (NODE_PATH
# names its node_modules). PyPI: amqtt (in PATH).
BROKERS ?= ejabberd,rabbitmq

test-brokers: setup ## publish through brokers beside Mosquitto, where they are installed; BROKERS=ejabberd,rabbitmq,aedes,amqtt
	@STREAMAV_OTHER_BROKERS=$(BROKERS) $(TEST_ENV) $(BIN)/python -m pytest -q tests/integration/test_other_brokers.py $(ARGS)

test-gpu: setup ## run the GPU tests; needs an NVIDIA GPU
	@$(TEST_ENV) $(BIN)/python -m pytest -q -m gpu $(ARGS)

clean: ## remove .venv, build outputs and tool caches; pip's downloads stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
