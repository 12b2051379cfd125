# `make demo` and `make test` work from a fresh clone: they create .venv and need only Python ≥ 3.11. With Node ≥ 20.19 they also
# build the page of `vaelab studio`.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
INSTALLED_DEV := .venv/installed-dev

PAGE := src/vaelab/studio/dist/index.html
MODULES := studio/node_modules/.package-lock.json
PAGE_SOURCES := $(shell find studio -name node_modules -prune -o -type f -print)
NODE_FITS := command -v npm >/dev/null && node -e 'const [major, minor] = process.versions.node.split("."); process.exit(+major > 20 || (+major === 20 && +minor >= 19) ? 0 : 1)' 2>/dev/null
NO_NODE := Node 20.19 or newer with npm is not installed (https://nodejs.org, or apt-get install nodejs npm)

.PHONY: demo studio test test-slow test-mnist test-browser test-page lint docs site clean

# On Linux, PyPI has PyTorch with gigabytes of CUDA libraries. Without an NVIDIA driver, PyTorch's index of CPU builds is used too,
# if it can be reached.
CPU_BUILDS := https://download.pytorch.org/whl/cpu
define INSTALL
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vaelab needs Python 3.11 or newer; this is $$($(PYTHON) --version): make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "on Debian, first: apt-get install python3-venv"; exit 1; }
@echo "installing into .venv (a minute or two)"
@more=""; if [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1 && $(PYTHON) -c 'import urllib.request as u; u.urlopen("$(CPU_BUILDS)/torch/", timeout=5)' 2>/dev/null; then more="--extra-index-url $(CPU_BUILDS)"; fi; \
$(BIN)/python -m pip install --quiet --disable-pip-version-check $$more --editable
endef

$(INSTALLED): pyproject.toml
	$(INSTALL) '.[studio]'
	@touch $@

$(INSTALLED_DEV): pyproject.toml
	$(INSTALL) '.[dev]'
	@touch $@ $(INSTALLED)

# Build the page of `vaelab studio` into the package.
studio:
	@$(NODE_FITS) || { echo "the page of vaelab studio is not built: $(NO_NODE)"; exit 1; }
	@$(MAKE) --no-print-directory $(PAGE)

$(PAGE): $(MODULES) $(PAGE_SOURCES)
	cd studio && npm run --silent build
	@touch $@

$(MODULES): studio/package-lock.json
	cd studio && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

demo: $(INSTALLED)
	@if ! { $(NODE_FITS); }; then echo "skipped: the page of vaelab studio; $(NO_NODE)"; \
	else $(MAKE) --no-print-directory $(PAGE) || echo "skipped: the page of vaelab studio; its build failed"; fi
	@rm -rf runs/demo
	$(BIN)/vaelab train strokes --model cvae --seconds 75 --out runs/demo
	@echo
	@echo "Open runs/demo/figures/grid.png: one row per digit, one latent vector (one handwriting) per column."
	@echo "Then try"
	@echo "  .venv/bin/vaelab sample runs/demo --label 7 --count 20 --out sevens.png      # images of a digit"
	@echo "  .venv/bin/vaelab train mnist --out runs/mnist                                # real handwriting (downloads 11 MB)"
	@echo "  .venv/bin/vaelab train FOLDER --size 64 --out runs/mine                      # your own images, one folder per class"
	@if test -e $(PAGE); then echo "  .venv/bin/vaelab studio runs/demo                                            # explore its latent space in the browser"; fi

# One worker per core; the tests of a file run in one worker, because they share fixtures.
WORKERS := -n logical --maxprocesses 8 --dist loadfile

test: $(INSTALLED_DEV)
	@if $(NODE_FITS); then $(MAKE) --no-print-directory $(PAGE); \
	else echo "skipped: the page of vaelab studio and its tests; $(NO_NODE)"; fi
	$(BIN)/python -m pytest $(WORKERS)

FILES ?= tests
test-slow: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m slow --durations 5 $(FILES)

test-mnist: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m mnist

# Needs a Chromium browser: apt-get install chromium fonts-dejavu, or Chrome. Tests that measure times run last and alone.
ALONE := tests/test_studio_speed.py tests/test_studio_drawing.py
test-browser: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m browser $(WORKERS) $(ALONE:%=--ignore %)
	$(BIN)/python -m pytest -m browser $(ALONE)

# Checks of the page's source: types, style and unit tests.
test-page: $(MODULES)
	cd studio && npm run --silent check && npm test --silent

lint: $(INSTALLED_DEV)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports

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
	rm -rf .venv runs build site studio/node_modules src/vaelab/studio/dist
