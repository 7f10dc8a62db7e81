# `make demo` and `make test` are all a newcomer needs; both create an environment in .venv first.
PYTHON ?= python3
# The version that the tests are run with; the package itself accepts any that pyproject.toml allows.
TORCH ?= torch==2.13.0
BIN := .venv/bin
# One test process per core, so one thread per process: more would compete for the same cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
WORKERS ?= auto

.PHONY: demo test test-slow test-all lint mutants mutation bench clean

demo: .venv/ready
	$(BIN)/eqprop compare digits --seeds 3

test: .venv/ready
	$(PYTEST) -n $(WORKERS) -m "not slow"

test-slow: .venv/ready
	$(PYTEST) -n $(WORKERS) -m slow

test-all: .venv/ready
	$(PYTEST) -n $(WORKERS)

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

mutants: .venv/ready
	$(BIN)/python tools/mutants.py --jobs 2

# All operators of cosmic-ray on the modules of tools/mutation.toml: hours, so not part of CI. A smaller run is, for example,
#   make mutation MODULE=connections/pooling.py TESTS=tests/laws/test_convolution.py
COPY := build/mutation
mutation: .venv/ready
	$(BIN)/python -m pip install --quiet "cosmic-ray>=8.3"
	rm -rf $(COPY) && mkdir -p $(COPY) && cp -r src tests tools docs records README.md pyproject.toml $(COPY)
ifdef MODULE
	sed -i.bak 's|^module-path = .*|module-path = "src/eqprop/$(MODULE)"|' $(COPY)/tools/mutation.toml
endif
ifdef TESTS
	sed -i.bak 's|no:cacheprovider .*|no:cacheprovider $(TESTS)"|' $(COPY)/tools/mutation.toml
endif
	cd $(COPY) && export PATH="$(abspath $(BIN)):$$PATH" OMP_NUM_THREADS=1 && \
	cosmic-ray baseline tools/mutation.toml && \
	cosmic-ray init tools/mutation.toml session.sqlite && \
	cr-filter-operators session.sqlite tools/mutation.toml && \
	cosmic-ray exec tools/mutation.toml session.sqlite && \
	cr-report session.sqlite --no-show-diff --surviving-only | tail -n 200

bench: .venv/ready
	$(BIN)/eqprop bench p-1h p-2h cep-1h
	$(BIN)/python benchmarks/autograd_step.py
	$(BIN)/python benchmarks/trainer_overhead.py

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("eqprop needs Python 3.11 or newer, this is %d.%d: name a newer one with  make PYTHON=/path/to/python" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot create virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
