# `make demo` and `make test` work from a bare clone: they make .venv themselves. Python ≥ 3.11 is all they need.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test test-slow test-mnist lint docs clean

# pip takes PyTorch's CPU build where the index has no other for this platform; see docs/decisions/dependencies.md.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vaelab needs Python 3.11 or newer; this is $$($(PYTHON) --version): make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "on Debian, first: apt-get install python3-venv"; exit 1; }
	@echo "installing into .venv (a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	@rm -rf runs/demo
	$(BIN)/vaelab train strokes --model cvae --seconds 60 --out runs/demo
	$(BIN)/vaelab sample runs/demo --count 12 --out runs/demo/figures/every-digit.png
	@echo
	@echo "Look at runs/demo/figures/grid.png: a row per digit, and down each column one latent point, one handwriting."
	@echo "Then type"
	@echo "  .venv/bin/vaelab sample runs/demo --label 7 --count 20 --out sevens.png      # the digit you ask for"
	@echo "  .venv/bin/vaelab train mnist --out runs/mnist                                # real handwriting (downloads 11 MB)"
	@echo "  .venv/bin/vaelab train FOLDER --size 64 --out runs/mine                      # your images, one folder per class"

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

test-mnist: $(INSTALLED)
	$(BIN)/python -m pytest -m mnist

lint: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports

# What is generated: the reference of the command line.
docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv runs
