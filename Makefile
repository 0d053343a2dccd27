# One file for people: `make run`, `make test`. Needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup run test lint bench clean
.DEFAULT_GOAL := run

setup: $(VENV)/.ready $(VENV)-mcp1/.ready  ## make .venv and install the locked requirements

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@scripts/setup $(PYTHON) $(VENV) requirements/dev.txt --package

$(VENV)-mcp1/.ready: requirements/mcp1.txt
	@scripts/setup $(PYTHON) $(VENV)-mcp1 requirements/mcp1.txt

run: $(VENV)/.ready  ## the bundled basic server and the sidecar in front of it
	@./scripts/run

test: setup lint  ## every check and test
	@scripts/test

lint: $(VENV)/.ready  ## style, types, import contracts
	@scripts/check

bench: $(VENV)/.ready  ## what the hop and the hit cost, as ratios
	@$(BIN)/python -m benchmarks.bench

clean:  ## forget the environments and caches
	rm -rf $(VENV) $(VENV)-mcp1 .mypy_cache .pytest_cache .ruff_cache .hypothesis
