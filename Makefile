# On a fresh machine each of these installs what it needs first; a second call is quick.
#   make demo       export the preset nano, stream a real video, draw what fired when: demo-output/
#   make test       every test that is not slow
#   make test-slow  the slow ones too
#   make lint       ruff, mypy, the import contracts
#   make gpu-test   build, verify and run on a GPU with TensorRT; skips with the reason elsewhere
#   make aarch64    a wheel for aarch64, built and tested under emulation (qemu-user-static, gcc-aarch64-linux-gnu)
#   make bench      the benchmarks of tests/bench
#   make install    the virtual environment alone: .venv

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# without byte code: compiling all of torch takes longer than compiling what is imported
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH := torch==2.13.0
# not python -m pytest, which puts the bare names of the top-level folders on the path
PYTEST := $(BIN)/pytest -q -rs --durations=20
NATIVE := $(shell find runtimes/native -name '*.[ch]' -not -path '*/tests/*' 2>/dev/null)
LINK_TREE := build/pkg/vidprism_edge

.PHONY: install demo test test-slow gpu-test aarch64 lint format bench clean link-tree
.DELETE_ON_ERROR:

install: $(VENV)/.installed

# torch by itself first, in the pinned version: another package that asks for it may bring a build with CUDA
$(VENV)/.packages: setup.cfg constraints.txt
	PYTHON="$(PYTHON)" scripts/system-packages.sh
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "installing Python packages into $(VENV) (a few minutes the first time)"
	$(PIP) install --no-compile -c constraints.txt setuptools wheel
	$(PIP) install --no-compile -c constraints.txt $(TORCH)
	$(PIP) install --no-compile -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

$(VENV)/.installed: $(VENV)/.packages setup.py pyproject.toml $(NATIVE)
	$(PIP) install --no-compile --no-deps --no-build-isolation -e .
	touch $@

demo: install
	$(BIN)/vidprism-edge demo --output demo-output

test: install
	$(PYTEST)

test-slow: install
	$(PYTEST) -m 'slow or not slow' --timeout=1800

# mypy and import-linter read the packages under the names that they are imported by
link-tree:
	@rm -rf $(LINK_TREE) && mkdir -p $(LINK_TREE)
	@for entry in vidprism_edge/*; do ln -s "$(CURDIR)/$$entry" $(LINK_TREE)/; done
	@for package in export runtimes calibration; do ln -s "$(CURDIR)/$$package" $(LINK_TREE)/; done

lint: install link-tree
	$(BIN)/ruff check .
	$(BIN)/mypy
	cd build/pkg && ../../$(BIN)/lint-imports --config ../../pyproject.toml --no-cache --no-logo

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

gpu-test: install
	$(PYTEST) -s tests/gpu --timeout=1800

# the tests of the extension run there; those that call a compiler or valgrind are of this machine
aarch64: install
	scripts/aarch64.sh build/aarch64
	cd build/aarch64/tree && ../python -m pytest -q -rs -p no:cacheprovider tests/runtimes/native \
		--ignore=tests/runtimes/native/test_c.py --ignore=tests/runtimes/native/test_instructions.py
	VIDPRISM_EDGE_AARCH64_PYTHON=$(CURDIR)/build/aarch64/python $(PYTEST) -m slow tests/export/test_aarch64.py --timeout=1800

bench: install
	$(BIN)/pytest -o addopts=--import-mode=importlib -o python_files='bench_*.py' tests/bench --benchmark-columns=min,median,stddev,rounds

clean:
	rm -rf $(VENV) build runtimes/native/build dist demo-output *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name '*.so' -not -path './.git/*' -delete
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
