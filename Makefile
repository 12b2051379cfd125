# `make demo` and `make test` work from a bare clone: they make .venv themselves. Python ≥ 3.11 is all they need; Node ≥ 20 builds
# the page of `vaelab studio`, where it is there.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
INSTALLED_DEV := .venv/installed-dev

PAGE := src/vaelab/studio/dist/index.html
MODULES := studio/node_modules/.package-lock.json
PAGE_SOURCES := $(shell find studio -name node_modules -prune -o -type f -print)
NODE_FITS := command -v npm >/dev/null && node -e 'const [major, minor] = process.versions.node.split("."); process.exit(+major > 20 || (+major === 20 && +minor >= 19) ? 0 : 1)' 2>/dev/null
NO_NODE := there is no Node 20.19 or newer with npm (https://nodejs.org, or apt-get install nodejs npm)

.PHONY: demo studio test test-slow test-mnist test-browser test-page lint docs site clean

# On Linux the index of pip gives PyTorch with gigabytes of CUDA; where there is no NVIDIA driver, PyTorch's own index of CPU
# builds is asked as well, if it can be reached.
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

# The page of `vaelab studio`, built into the package.
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
	@if ! { $(NODE_FITS); }; then echo "left out: the page of vaelab studio, since $(NO_NODE)"; \
	else $(MAKE) --no-print-directory $(PAGE) || echo "left out: the page of vaelab studio, which could not be built"; fi
	@rm -rf runs/demo
	$(BIN)/vaelab train strokes --model cvae --seconds 75 --out runs/demo
	@echo
	@echo "Look at runs/demo/figures/grid.png: a row per digit, and down each column one latent point, one handwriting."
	@echo "Then type"
	@echo "  .venv/bin/vaelab sample runs/demo --label 7 --count 20 --out sevens.png      # the digit you ask for"
	@echo "  .venv/bin/vaelab train mnist --out runs/mnist                                # real handwriting (downloads 11 MB)"
	@echo "  .venv/bin/vaelab train FOLDER --size 64 --out runs/mine                      # your images, one folder per class"
	@if test -e $(PAGE); then echo "  .venv/bin/vaelab studio runs/demo                                            # a page to see and touch its latent space"; fi

# A worker for every core; a file's tests stay together, with what they share.
WORKERS := -n logical --maxprocesses 8 --dist loadfile

test: $(INSTALLED_DEV)
	@if $(NODE_FITS); then $(MAKE) --no-print-directory $(PAGE); \
	else echo "left out: the page of vaelab studio and the tests that open it, since $(NO_NODE)"; fi
	$(BIN)/python -m pytest $(WORKERS)

FILES ?= tests
test-slow: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m slow --durations 5 $(FILES)

test-mnist: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m mnist

# Needs a Chromium browser: apt-get install chromium fonts-dejavu, or Chrome. What is timed or prints figures comes after the rest, alone.
ALONE := tests/test_studio_speed.py tests/test_studio_drawing.py
test-browser: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m browser $(WORKERS) $(ALONE:%=--ignore %)
	$(BIN)/python -m pytest -m browser $(ALONE)

# The page's own checks: types, style and the tests of its units.
test-page: $(MODULES)
	cd studio && npm run --silent check && npm test --silent

lint: $(INSTALLED_DEV)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports

# What is generated: the reference of the command line.
docs: $(INSTALLED_DEV)
	$(BIN)/python docs/generate.py

# The documentation as a site, in site/. A warning is an error: a link or picture that leads nowhere, a docstring that names a
# parameter there is none of. The variable silences a banner about the generator's future, which is no warning about the site.
site: $(INSTALLED_DEV)
	$(BIN)/python docs/assemble.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html; to read it with its search: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site"

clean:
	rm -rf .venv runs build site studio/node_modules src/vaelab/studio/dist
