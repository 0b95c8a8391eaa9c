# `make demo` and `make test` set everything up on a fresh machine; a second call sets nothing up again.
# With an NVIDIA GPU the GPU builds are installed, without one the CPU builds.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
READY := $(VENV)/.ready-$(BUILD)
export HF_HUB_DISABLE_TELEMETRY := 1
export RAY_USAGE_STATS_ENABLED := 0
export VLLM_NO_USAGE_STATS := 1
export DO_NOT_TRACK := 1
unexport PYTHONDONTWRITEBYTECODE  # else every worker of a run compiles the package again
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup demo test test-cluster test-all test-gpu unit lint locks wheel mutants fuzz bench sweep chaos soak clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(READY)  ## environment and demo model

$(READY): pyproject.toml scripts/setup.sh $(wildcard locks/*.txt)
	bash scripts/setup.sh "$(PYTHON)" "$(VENV)" "$(BUILD)" dev
	touch $@

ON_GPU := --set engine.num_gpus=1 --set train.gpus_per_worker=1 --set train.num_workers=1
DEMO := jobs/configs/demo.yaml $(if $(filter gpu,$(BUILD)),$(ON_GPU))

demo: setup  ## the whole pipeline on a small real model: synthesize, score, train, evaluate, report
	$(BIN)/paft run $(DEMO)

unit: setup  ## tests without Ray, seconds
	$(BIN)/pytest tests/unit -m "not slow" -n auto --dist worksteal

test: setup  ## unit and integration tests with real Ray, vLLM and DeepSpeed
	$(BIN)/pytest tests/unit tests/hostile -m "not slow" -n auto --dist worksteal
	$(BIN)/pytest tests/integration -m "not slow"

test-cluster: setup  ## several hosts on this machine: namespaces with sshd (root, openssh-server, rsync, iproute2)
	$(BIN)/pytest tests/cluster

test-all: setup  ## the slow ones too
	$(BIN)/pytest tests --hypothesis-profile=thorough

test-gpu: setup  ## training and engine on this machine's GPU, in at most 20 minutes, into docs/hardware/
	$(BIN)/python -m tests.gpu

lint: setup  ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

locks: setup  ## locks/ after a change of the dependencies in pyproject.toml (scripts/locks.py --upgrade: the newest)
	$(BIN)/python scripts/locks.py

wheel:  ## sdist and wheel in dist/, and the wheel tested: plain pip, an empty environment
	bash scripts/build.sh
	bash scripts/test_wheel.sh dist/*.whl "$(PYTHON)"

mutants: setup  ## each invariant switched off by a small patch must turn its test red
	$(BIN)/python tests/mutants/run.py

fuzz: setup  ## template parser, readers and configuration, fuzzed by coverage for a minute each
	$(BIN)/python -m tests.fuzz.run

bench: setup  ## speed next to what users have today, interleaved on the same rows (ONLY=training: one part)
	$(BIN)/python -m benchmarks $(ONLY)

sweep: setup  ## Ray Tune over prompt-set sizes at demo scale
	$(BIN)/paft sweep $(DEMO)

chaos: setup  ## faults into every stage at random moments, against an uninterrupted run (CHAOS=3: half an hour)
	$(BIN)/python -m tests.chaos $(if $(CHAOS),--points $(CHAOS))

soak: setup  ## the same for hours, with a real generator; then memory over 20 stages and a million rows
	$(BIN)/python -m tests.chaos --soak
	$(BIN)/python -m tests.chaos.memory stages
	$(BIN)/python -m tests.chaos.memory rows

clean:  ## the environment (runs are kept)
	rm -rf $(VENV)
