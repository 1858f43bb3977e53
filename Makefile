# Thin lines that call the real commands. VENV=path uses another virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.echofed-installed
OUT ?= runs/demo

.PHONY: install demo test check check-long figures synthesis streams protos clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock || $(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python deploy/demo/run.py --config deploy/configs/experiments/demo.yaml --out $(OUT)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu and not bench"

check: $(STAMP)
	VENV=$(VENV) bash deploy/check.sh

check-long: $(STAMP)
	$(BIN)/python -m pytest -m slow --timeout 1800

streams: $(STAMP)
	$(BIN)/echofed-aggregator streams --out runs/streams

figures: $(STAMP)
	$(BIN)/python deploy/demo/figures.py --config deploy/configs/experiments/figures.yaml --out runs/figures

synthesis: $(STAMP)
	$(BIN)/python tests/bench/measure_synthesis.py $(SITE) $(DATASET) --out runs/synthesis $(ARGS)

protos: $(STAMP)
	VENV=$(VENV) bash deploy/protoc.sh

clean:
	rm -rf runs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
