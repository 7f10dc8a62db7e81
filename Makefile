# `make demo` and `make test` are all a newcomer needs; both make their own environment in .venv first.
PYTHON ?= python3
# The version that the tests are proven with; the package itself takes any that pyproject.toml allows.
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: demo test lint mutants bench clean

demo: .venv/ready
	$(BIN)/eqprop compare digits --seeds 3

test: .venv/ready
	$(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python

mutants: .venv/ready
	$(BIN)/python tools/mutate.py

bench: .venv/ready
	$(BIN)/eqprop bench p-1h p-2h cep-1h
	$(BIN)/python benchmarks/autograd_step.py
	$(BIN)/python benchmarks/trainer_overhead.py

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("eqprop needs Python 3.11 or newer, this is %d.%d: name a newer one with  make PYTHON=/path/to/python" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
