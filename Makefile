# make site, make test: on Linux with Python 3.11 or newer, nothing else has to be prepared.
#
#   make site                 an environment without torch, the notebooks with published records, _site/, its checks
#   make site PROFILE=smoke   the same from runs computed here, on embedded data (needs torch; minutes)
#   make test                 lint, types, tests, notebooks; make test-long: kills, mutations, fuzzing, notebooks twice
#   make serve                look at _site/;  make clean: remove what was built, keep .venv and .store
#
# The first line that fails says why. PYTHON=python3.12 chooses the interpreter, VENV=… another environment.

PYTHON  ?= python3
VENV    ?= .venv
PROFILE ?= published

PY    := $(VENV)/bin/python
POSTS := $(PY) -m lib

# A process a core, of one thread each; what stays together in one process: tests/conftest.py says.
PARALLEL := -n logical --maxprocesses 8 --dist loadgroup

extras_site    := site
extras_compute := site,compute
extras_test    := site,compute,cluster,test

# A target whose recipe failed is not there.
.DELETE_ON_ERROR:
.PHONY: site test test-long serve clean

site: $(VENV)/.has-$(if $(filter published,$(PROFILE)),site,compute)
	$(POSTS) site --profile $(PROFILE)
	$(POSTS) check

test: $(VENV)/.has-test
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) -m pytest $(PARALLEL) --dist loadfile --nbval-lax posts/
	$(PY) -m pytest $(PARALLEL)

test-long: $(VENV)/.has-test
	$(PY) -m pytest $(PARALLEL) -m long

serve: $(VENV)/.has-site
	$(POSTS) serve

clean:
	rm -rf _site .build .quarto .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is wanted: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# What an environment has, by extras; the lock or the package's metadata newer than it: installed again.
$(VENV)/.has-%: pyproject.toml constraints.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[$(extras_$*)]'
	@$(PY) -m compileall -q -j 0 $(VENV)/lib >/dev/null || true  # on all cores; a package's template may not compile
	@touch $@
