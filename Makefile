# Everything a person does with this tree. `make help` lists it.

# Any Python from 3.11 on; only venv, make and git are needed beside it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# The lists are complete and pin every byte that is downloaded, so nothing is left to resolve.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps
# One stamp per set of requirements: newer than its inputs means installed.
RUN := .venv/.installed-run
DEV := .venv/.installed-dev

# Where `make load` and `make demo` find the mesh, and how hard they push.
HOST ?= http://127.0.0.1:8080
GRPC ?= 127.0.0.1:50051
USERS ?= 50
SECONDS ?= 25

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev run test bench sim fuzz mutants nemesis check protos demo load chaos clean

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(RUN) ## Make .venv with all that running needs

setup-dev: $(DEV) ## Make .venv with all that tests and checks need

run: $(RUN) ## Start everything: REST on 127.0.0.1:8080, gRPC on 127.0.0.1:50051
	$(BIN)/shopmesh up

demo: $(RUN) ## Let customers shop in a running mesh, then compare and audit (ARGS="--customers 200")
	$(BIN)/shopmesh emulate $(ARGS)

load: $(DEV) ## Load a running mesh with locust and print its table (HOST, GRPC, USERS, SECONDS)
	SHOP_TEST_GRPC=$(GRPC) $(BIN)/locust --locustfile tests/load/locustfile.py --host $(HOST) --headless --only-summary \
	  --users $(USERS) --spawn-rate $(USERS) --run-time $(SECONDS)s --stop-timeout 15 --check-fail-ratio 0.01

test: $(DEV) ## Run all tests; installs MariaDB, Redis and kubectl if missing (ARGS="-k cart")
	scripts/install-debian.sh
	$(BIN)/python -m pytest -n 2 -m "not alone" $(ARGS)
	$(BIN)/python -m pytest -m alone $(ARGS) || [ $$? -eq 5 ] # 5: ARGS chose none of them

bench: $(DEV) ## Measure the mesh against its peers for a quarter of an hour; report in bench/ (ARGS="--short")
	scripts/install-debian.sh
	$(BIN)/python -m tests.bench $(ARGS)

sim: $(DEV) ## Simulate 1,000 seeds of faults in virtual time, prove every promise, print figures (ARGS="--replay 58")
	$(BIN)/python -m tests.sim $(or $(ARGS),--seeds 1000 --again 20)

fuzz: $(DEV) ## Send 200,000 spoilt requests to the shim and judge its answers (ARGS="--seed 2")
	$(BIN)/python -m tests.fuzz $(ARGS)

mutants: $(DEV) ## Plant bugs in copies of the tree and print who catches each (ARGS="--only no-barrier")
	scripts/install-debian.sh
	$(BIN)/python -m tests.mutants $(ARGS)

nemesis: $(DEV) ## Shop for twelve minutes while all is killed, stopped and cut; report in build/nemesis (ARGS="--seed 2")
	scripts/install-debian.sh
	$(BIN)/python -m tests.nemesis $(ARGS)

chaos: $(DEV) ## Kill, fail and repeat every transaction and call while orders are under way (ARGS="--only saga")
	scripts/install-debian.sh
	$(BIN)/python -m tests.chaos $(ARGS)

check: $(DEV) ## Lint, types, import rules, drift of what is generated, the contract's style
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/python docs/diagrams.py --check
	$(BIN)/buf lint shop/descriptor_set.binpb --config buf.yaml

protos: $(DEV) ## Generate policy/ and shop/ from protos/, and what docs/ draws from the code
	$(BIN)/python protos/generate.py
	$(BIN)/python docs/diagrams.py

clean: ## Remove .venv and caches; data under .data/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info

$(RUN): requirements/build.txt requirements/run.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes --requirement requirements/build.txt --requirement requirements/run.txt
	$(PIP) --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUN) requirements/dev.txt
	$(PIP) --require-hashes --requirement requirements/dev.txt
	@touch $@
