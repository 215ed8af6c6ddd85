# Two commands matter: make demo, make test. Each sets up the pinned environment by itself, once per machine.

SHELL := /bin/sh
PYTHON ?= $(firstword $(foreach p,python3 python3.11 python3.12 python3.13,$(if $(shell command -v $(p)),$(p))))
NO_PYTHON = echo 'error: Python 3.11 or newer is needed: install it, or name it: make PYTHON=PATH' >&2; exit 1
# several clones share one environment, so the checkout is found by path instead of being installed into it
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

# the tests start more than a hundred Python processes, which read the compiled files of the first one
unexport PYTHONDONTWRITEBYTECODE

# $(call with,ROW) runs the rest of the line with $$py as that row's interpreter
with = $(if $(PYTHON),py="$$("$(PYTHON)" tools/setup_env.py $(1))",$(NO_PYTHON)) &&
# one thread for each of two test processes, and whole files to one process, for the sake of shared fixtures
PYTEST = OMP_NUM_THREADS=1 "$$py" -m pytest -n $(WORKERS) --dist loadfile $(ARGS)
WORKERS ?= 2
# compile the optional operators; once for a version of the sources, and not a reason to stop
OPERATORS = { "$$py" -m vitdet_plugin.ops.build --quiet || true; } &&

.DEFAULT_GOAL := help
SOAK = OMP_NUM_THREADS=1 VITDET_SOAK=1 "$$py" -m
.PHONY: help demo test test-upstream lint docs soak bench gpu-check which-python

help:  ## this list
	@echo 'make <target>, where <target> is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' Makefile

demo:  ## make a small data set, train on it, evaluate, draw results (about 9 minutes on 2 cores; ARGS=CONFIG for another)
	@$(call with,default) $(OPERATORS) "$$py" tools/demo.py $(ARGS)

test:  ## the test suite (ARGS='tests/compat -x' for a part of it)
	@$(call with,default) $(OPERATORS) $(PYTEST)

test-upstream:  ## the test suite on upstream mmdet, mmcv-lite and mmpretrain
	@$(call with,upstream) $(OPERATORS) $(PYTEST)

lint:  ## style, likely mistakes and types (ruff, mypy)
	@$(call with,default) "$$py" -m ruff check . && "$$py" -m mypy

docs:  ## the documentation as a site, in work_dirs/site
	@$(call with,default) NO_MKDOCS_2_WARNING=1 "$$py" -m mkdocs build --strict && \
	echo 'open work_dirs/site/index.html'

soak:  ## the long tests: 50 kills while saving, 2,000 corrupted annotation files, a rank that hangs, FSDP, two nodes, inductor, tutorials, exports of DINO and Mask2Former for all sizes (30 to 50 minutes)
	@$(call with,default) $(SOAK) tests.faults.soak $(ARGS) && \
	$(SOAK) pytest -q tests/faults/test_ranks.py tests/faults/test_sharded.py tests/faults/test_agents.py \
	tests/backbones/test_inductor.py tests/test_tutorials.py tests/test_wheel.py \
	tests/export/test_queries.py tests/export/test_instances.py \
	-k 'hangs or two_sharded or agent or inductor or a_tutorial or two_ranks_run or the_file'

bench:  ## time and memory against the reference forms (25 minutes; ARGS='attention --rows inference --json out.json')
	@$(call with,default) $(OPERATORS) "$$py" -m benchmarks $(ARGS)

gpu-check:  ## prove and time everything on the GPU of this machine (8 minutes; ARGS='--quick --json FILE' for 3)
	@$(call with,default) "$$py" -m vitdet_plugin gpu-check $(ARGS)

which-python:  ## path of the environment's interpreter (make -s which-python)
	@$(call with,default) echo "$$py"
