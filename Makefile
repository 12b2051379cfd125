# `make demo` and `make test` work from a fresh clone: they create .venv and need only Python ≥ 3.11.

PYTHON ?= python3
BIN := .venv/bin
# All packages have the versions of constraints.txt, those that build the project too (pip from 25.3 reads the second variable).
LOCKED := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
PIP := $(LOCKED) $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALLED := .venv/installed
INSTALLED_DEV := .venv/installed-dev
DIST := dist

.PHONY: demo studio dist test test-slow test-mnist test-browser test-page soak lint lock audit docs site clean

# On Linux, PyPI has PyTorch with gigabytes of CUDA libraries. Without an NVIDIA driver, PyTorch's index of CPU builds is used too,
# if it can be reached.
CPU_BUILDS := https://download.pytorch.org/whl/cpu
define INSTALL
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vaelab needs Python 3.11 or newer; this is $$($(PYTHON) --version): make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "on Debian, first: apt-get install python3-venv"; exit 1; }
@echo "installing into .venv (a minute or two)"
@more=""; if [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1 && $(PYTHON) -c 'import urllib.request as u; u.urlopen("$(CPU_BUILDS)/torch/", timeout=5)' 2>/dev/null; then more="--extra-index-url $(CPU_BUILDS)"; fi; \
$(PIP) install $$more --editable
endef

$(INSTALLED): pyproject.toml constraints.txt
	$(INSTALL) '.[studio]'
	@touch $@

$(INSTALLED_DEV): pyproject.toml constraints.txt
	$(INSTALL) '.[dev]'
	@touch $@ $(INSTALLED)

# Build the page of `vaelab studio` into the package, unless it is up to date; Node is installed into .venv if the system has none.
define PAGE
node="$$($(BIN)/python hatch_build.py --requires)"; test -z "$$node" || $(PIP) install "$$node"; $(BIN)/python hatch_build.py
endef

studio: $(INSTALLED)
	@$(PAGE)

# Build the wheel and the source distribution; the wheel is built from the latter.
dist: $(INSTALLED_DEV)
	rm -rf $(DIST)
	$(LOCKED) $(BIN)/python -m build --outdir $(DIST)

demo: $(INSTALLED)
	@$(PAGE) || echo "skipped: the page of vaelab studio"
	@rm -rf runs/demo
	$(BIN)/vaelab train strokes --model all --seconds 135 --out runs/demo
	@echo "      vaelab train mnist --out runs/mnist                  (real handwriting; downloads 11 MB)"
	@echo "      vaelab train FOLDER --out runs/mine                  (your own images, one folder per class)"
	@echo "      These commands need . .venv/bin/activate first."
	@echo "Open runs/demo/figures/grid.png: one row per digit, one latent vector (one handwriting) per column."

# One worker per core; the tests of a file run in one worker, because they share fixtures.
WORKERS := -n logical --maxprocesses 8 --dist loadfile

test: $(INSTALLED_DEV)
	@$(PAGE) || echo "skipped: the page of vaelab studio and its tests"
	$(BIN)/python -m pytest $(WORKERS)

# trackio needs an older Pillow, so it is in an environment of its own, which takes everything else from .venv.
TRACKIO := .venv/trackio
$(TRACKIO)/installed: Makefile $(INSTALLED_DEV)
	$(BIN)/python -m venv --clear $(TRACKIO)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' > \
	    "$$($(TRACKIO)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	$(TRACKIO)/bin/python -m pip --quiet --disable-pip-version-check install trackio==0.43.0
	@touch $@

FILES ?= tests
test-slow: $(INSTALLED_DEV) $(TRACKIO)/installed
	$(BIN)/python -m pytest -m slow --durations 5 $(FILES)

# The long checks of docs/reliability.md: more than an hour. The fuzzing needs the package atheris.
soak: $(INSTALLED_DEV)
	$(BIN)/python benchmarks/soak/kills.py
	$(BIN)/python benchmarks/soak/damage.py
	$(BIN)/python benchmarks/soak/damage_caches.py
	$(BIN)/python benchmarks/soak/many_images.py
	$(BIN)/vaelab train strokes --seconds 60 --out build/soak-run || test -e build/soak-run/model.safetensors
	$(BIN)/python benchmarks/soak/serve.py build/soak-run
	$(BIN)/python benchmarks/soak/fuzz.py --seconds 600

test-mnist: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m mnist

# Needs a Chromium browser: apt-get install chromium fonts-dejavu, or Chrome. Tests that measure times run last and alone.
ALONE := tests/test_studio_speed.py tests/test_studio_drawing.py
test-browser: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m browser $(WORKERS) $(ALONE:%=--ignore %)
	$(BIN)/python -m pytest -m browser $(ALONE)

# Checks of the page's source: types, style and unit tests.
test-page: $(INSTALLED_DEV)
	$(BIN)/python hatch_build.py check test

lint: $(INSTALLED_DEV)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports

# Write constraints.txt: the newest versions of all packages that fit each other on Python 3.11 and newer, on all systems.
UPGRADE ?= --upgrade
lock:
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip --quiet --disable-pip-version-check install uv
	$(BIN)/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 --no-annotate $(UPGRADE) \
	    --custom-compile-command "make lock" --output-file constraints.txt

# Report known vulnerabilities of the locked Python and npm packages; fails if there are any.
audit: $(INSTALLED_DEV)
	@test -x .venv/audit/bin/pip-audit || { $(PYTHON) -m venv .venv/audit && .venv/audit/bin/python -m pip install --quiet pip-audit; }
	@status=0; .venv/audit/bin/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --progress-spinner off || status=1; \
	$(BIN)/python hatch_build.py --audit || status=1; exit $$status

# Generate the reference of the command line.
docs: $(INSTALLED_DEV)
	$(BIN)/python docs/generate.py

# Build the documentation as a site, in site/. Warnings are errors, such as a broken link or a docstring with an unknown parameter.
# The variable disables a banner about the future of MkDocs.
site: $(INSTALLED_DEV)
	$(BIN)/python docs/assemble.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html; to read it with search: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site"

clean:
	rm -rf .venv runs build dist site studio/node_modules src/vaelab/studio/dist
