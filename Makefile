# Everything runs in .venv, made on first use. Another interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := ppo_cartpole_fast

.PHONY: help demo test lint format docs pictures bench wheel clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## install, then train and evaluate PPO on CartPole (under five minutes)
	$(BIN)/lit-rl fit --config $(DEMO)
	$(BIN)/lit-rl test --config runs/$(DEMO)/latest/config.yaml --ckpt_path best
	@echo
	@echo "The run lies in $$(cd runs/$(DEMO)/latest && pwd -P):"
	@ls runs/$(DEMO)/latest/
	@echo "Curves: $(BIN)/tensorboard --logdir runs"

test: $(VENV)/.installed-dev  ## run the tests
	$(BIN)/python -m pytest tests -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.installed-dev  ## ruff, pyright, import floors, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(VENV)/.installed-dev  ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## build the pages of docs/ into build/docs/html, a warning being an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs/html
	$(BIN)/python docs/check_site.py build/docs/html

pictures: $(VENV)/.installed-dev  ## train and draw the pictures of the README (half an hour on two cores)
	$(BIN)/python docs/draw_pictures.py

bench: $(VENV)/.installed-bench  ## measure every speed claim against the peer libraries
	$(BIN)/python tests/benchmarks/run_all.py

wheel: $(VENV)/.installed-dev  ## build the wheel and try it in a clean environment
	tests/wheel_test.sh $(BIN)/python

clean:  ## delete .venv, .venv-peers and caches; runs/ is kept
	rm -rf $(VENV) .venv-peers build dist *.egg-info .ruff_cache .pytest_cache .import_linter_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

# dev and bench add to what is installed, so that either may come first
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[$*]"
	@touch $@
