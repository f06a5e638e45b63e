# SPDX-License-Identifier: Apache-2.0
# Every target sets up what it needs; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Exported, so that no quote in it can end the command.
export PROMPT ?= a red mug

comma := ,
# The first candidate that really runs: version managers leave shims of versions that are not there.
find_python = $(shell for name in $(1); do \
  if "$$name" -c 'import ensurepip, sys, venv; sys.exit(not ($(2)))' 2>/dev/null; then \
    command -v "$$name"; break; fi; done)
PYTHON ?= $(call find_python,python3.11 python3.12 python3.13 python3 python,sys.version_info >= (3$(comma) 11))
BLENDER_PYTHON ?= $(call find_python,python3.11 python3 python,sys.version_info[:2] == (3$(comma) 11))

BACKEND := .venv/bin/python
BLENDER := .venv-blender/bin/python
PIP_INSTALL := -m pip install --quiet --quiet --disable-pip-version-check --no-input

# glibc gives every large block back to the kernel when it is freed, and tensors are large blocks:
# fetching them anew costs a fifth of the time on a CPU.
export MALLOC_MMAP_THRESHOLD_ := 4000000000
export MALLOC_TRIM_THRESHOLD_ := 4000000000
# Threads that wait for each other spin, on the cores that other processes need.
export OMP_WAIT_POLICY := passive

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.PHONY: demo
demo: venvs ## PROMPT="a red mug" in Blender: picture, .blend and GLB in demo/
	$(BACKEND) tools/run_demo.py --prompt "$$PROMPT" --output demo \
	  --backend-python $(BACKEND) --blender-python $(BLENDER)

.PHONY: test
test: venvs addon ## Lint, types and all tests but the slow ones
	$(BACKEND) tools/run_checks.py --backend-python $(BACKEND) --blender-python $(BLENDER)

.PHONY: test-blender
test-blender: .venv/.installed ## The extension's tests in all Blenders that pip has; a table
	$(BACKEND) tools/blender_versions.py --backend-python $(BACKEND)

.PHONY: screenshots
screenshots: .venv/.installed ## The pictures of docs/tour.md, from a real window; look at each
	$(BACKEND) tools/screenshots.py

.PHONY: test-slow
test-slow: .venv/.installed ## The tests that take minutes, and what the service promises
	$(BACKEND) -m pytest -m "slow or promise" tests

.PHONY: lint
lint: .venv/.installed ## Linter, format and types
	$(BACKEND) -m ruff check .
	$(BACKEND) -m ruff format --check .
	$(BACKEND) -m mypy

.PHONY: format
format: .venv/.installed ## Rewrite the sources as the linter and the formatter want them
	$(BACKEND) -m ruff check --fix .
	$(BACKEND) -m ruff format .

.PHONY: addon
addon: venvs ## Build the extension for this platform into dist/
	$(BACKEND) build_addon.py --platform current --output dist --blender-python $(BLENDER)

.PHONY: venvs
venvs: .venv/.installed .venv-blender/.installed ## The two virtual environments

.venv/.installed: pyproject.toml constraints.txt $(wildcard hatch_build.py) $(shell find protos -name '*.proto' 2>/dev/null)
	@test -n "$(PYTHON)" || { echo 'make: no Python >= 3.11 with venv and pip was found:' \
	  'install one (Debian: python3-venv), or name it: make PYTHON=/path/to/python3' >&2; exit 2; }
	$(PYTHON) -m venv .venv
	@# First, and by its exact pin: anything looser finds a build with gigabytes of CUDA.
	$(BACKEND) $(PIP_INSTALL) "$$(grep '^torch==' constraints.txt)"
	$(BACKEND) $(PIP_INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@

.venv-blender/.installed: constraints-blender.txt
	@test -n "$(BLENDER_PYTHON)" || { echo 'make: no Python 3.11 with venv and pip was found: the bpy' \
	  'wheel needs just this one; install it, or name it: make BLENDER_PYTHON=/path/to/python3.11' >&2; exit 2; }
	$(BLENDER_PYTHON) -m venv .venv-blender
	$(BLENDER) $(PIP_INSTALL) -c constraints-blender.txt bpy pytest pytest-timeout
	@touch $@

.PHONY: clean
clean: ## Remove everything that the targets made
	rm -rf .venv .venv-blender .build dist demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find backend blender_addon tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
