# Everything runs in .venv, which is made on first use and made anew when requirements.lock or
# pyproject.toml change. Needed beforehand: Python 3.11 or newer, make, git and a package index.
#
#     make test                    the whole suite
#     make PYTHON=python3.12 test  with another Python (for a new .venv)

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.inshape-stamp
DEMO_STAMP := .venv/.inshape-demo-stamp
TORCH ?= torch==2.13.0
PYTEST := $(BIN)/python -m pytest
# Named, so that the other files are not imported to learn that nothing in them is marked.
ON_BACKENDS = $(PYTEST) -m backends $$(grep -rl --include='test_*.py' 'mark\.backends' tests)

JOBS ?= auto

# The demo on photos: WEIGHTS is "imagenet" or a .weights.h5/.keras file, PHOTOS a folder per class.
BACKBONE ?= MobileNetV3Small
INPUT ?= 96x96x3
OUT ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help venv test lint format test-backends test-jax test-torch docs demo lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  */\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "make %-15s %s\n", $$1, $$2}'

venv: $(STAMP)  ## make or refresh .venv from requirements.lock

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: this is Python %d.%d, inshape needs 3.11 or newer; say make PYTHON=python3.12" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(STAMP): requirements.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# Half of the whole lock, at the same versions; where all of it is there, nothing is added.
$(DEMO_STAMP): requirements-demo.lock pyproject.toml | $(BIN)/uv
	test -e $(STAMP) || $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements-demo.lock
	test -e $(STAMP) || $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

test: $(STAMP)  ## the whole suite, doctests included, on JOBS processes
	$(PYTEST) -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## ruff format, ruff check, pyright
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --warnings

format: $(STAMP)  ## let ruff lay the code out and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-backends: test-jax test-torch  ## the tests marked "backends" on JAX and PyTorch

test-jax: $(STAMP)  ## the tests marked "backends" on JAX
	KERAS_BACKEND=jax $(ON_BACKENDS)

# PyTorch is not in the lock: its builds differ by index. A build with CUDA (gigabytes) is refused.
test-torch: $(STAMP)  ## the tests marked "backends" on PyTorch (installs a CPU build when missing)
	@if $(BIN)/python -c 'import torch' 2>/dev/null \
	  || { ! $(BIN)/python -m pip install --quiet --dry-run --report - '$(TORCH)' 2>/dev/null | grep -q '"name": "nvidia' \
	       && $(BIN)/python -m pip install --quiet '$(TORCH)'; }; \
	then KERAS_BACKEND=torch $(ON_BACKENDS); \
	else echo "test-torch: skipped, no CPU build of $(TORCH) could be installed here; install one into .venv by hand and run make test-torch again"; \
	fi

# A page that cannot be linked to, or a docstring that cannot be read, fails the build.
docs: $(STAMP)  ## the documentation's site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

demo: $(DEMO_STAMP)  ## the main job on handwritten digits; or on photos: make demo WEIGHTS=file PHOTOS=folder
	@if test -z "$(WEIGHTS)$(PHOTOS)"; then $(BIN)/inshape demo --out "$(OUT)"; \
	elif test -z "$(WEIGHTS)" -o -z "$(PHOTOS)"; then \
	  echo 'make demo: WEIGHTS and PHOTOS go together; say make demo WEIGHTS=FILE PHOTOS=FOLDER, with a .weights.h5 or .keras file of $(BACKBONE) (or WEIGHTS=imagenet) and one folder of pictures per class, or make demo alone' >&2; exit 2; \
	else $(BIN)/inshape train "$(PHOTOS)" --input $(INPUT) --backbone $(BACKBONE) --weights "$(WEIGHTS)" --out "$(OUT)"; fi

# Universal: one file for every platform and Python from 3.11 on. It names no index, so that the
# reader's own is used.
lock: $(BIN)/uv  ## pin the newest versions in requirements.lock, and the demo's part of it
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra cpu --extra dev \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  -o requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra cpu \
	  --constraint requirements.lock --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" -o requirements-demo.lock pyproject.toml

clean:  ## remove .venv and every cache
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist site src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
