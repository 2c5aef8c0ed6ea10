# Each target makes its own environment in .venv on a machine that has Python 3.11 to 3.13, make and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DATA ?= generated
ARGS ?=
# Hundreds of short processes import these rooms: they are compiled once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help rehearse test test-unit check bench-preview drills-table drills-kill up-kill third-site clean

help:
	@echo "make rehearse      two sites on this machine; empty one, lose it, cut it off, lose a machine (DATA=folder of a MovieLens data set)"
	@echo "make test          every test; ARGS='-k name' narrows them"
	@echo "make test-unit     the tests that start no server"
	@echo "make check         formatting, lint, types, and the rules over everything declared"
	@echo "make bench-preview what a preview costs with 2, 5 and 10 sites, and whether a site costs the same in each; some minutes"
	@echo "make drills-table  each drill on a healthy lab, without its defence, and with its own parts failing; about an hour"
	@echo "make drills-kill   20 drills whose host dies or is cut off at a random moment; about 40 minutes"
	@echo "make up-kill       20 times \`tandem up\` dies at a random moment; about half an hour"
	@echo "make third-site    a third site comes by settings files only, is drilled, and goes again; about twenty minutes"
	@echo "make clean         stop the lab and remove what was made here"

$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python {v[0]}.{v[1]} found, Tandem needs 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { echo "no virtual environment can be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV); the first time this takes some minutes, most of them for torch"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[programs,serving,train,drills,lab,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --constraint requirements.lock nvidia-pytriton pulumi-policy
	@touch $@

rehearse: $(INSTALLED)
	$(BIN)/tandem rehearse --data $(DATA)

# Four processes, as most tests wait for something: those of the whole lab; drills, in a lab of their own, with those of the
# lab's engine; those that start servers; and those that start none, with those of the lab's parts after them. What the
# first three say is shown when all have ended; what only computes gives way to what serves. 5 is pytest's word for
# "nothing was selected".
DRILLS := tests/live/test_drills.py
ENGINE := $(wildcard tests/lab/test_engine_*.py tests/lab/test_providers_*.py tests/lab/test_traffic_stack.py)
test: $(INSTALLED)
	@said=$$(mktemp -d); $(BIN)/python -m pytest $(ARGS) tests/live --ignore $(DRILLS) >$$said/line 2>&1 & line=$$!; \
	$(BIN)/python -m pytest $(ARGS) $(DRILLS) $(ENGINE) >$$said/drills 2>&1 & drills=$$!; \
	$(BIN)/python -m pytest $(ARGS) -m live --ignore tests/live --ignore tests/lab >$$said/servers 2>&1 & servers=$$!; \
	trap 'kill -INT $$line $$drills $$servers 2>/dev/null; wait $$line $$drills $$servers; rm -r $$said; exit 130' INT TERM; \
	nice -n 5 $(BIN)/python -m pytest $(ARGS) -m 'not live' --ignore tests/live --ignore tests/lab; rest=$$?; \
	$(BIN)/python -m pytest $(ARGS) tests/lab $(ENGINE:%=--ignore=%); lab=$$?; \
	wait $$servers; servers=$$?; cat $$said/servers; wait $$drills; drills=$$?; cat $$said/drills; \
	wait $$line; line=$$?; cat $$said/line; rm -r $$said; \
	for code in $$rest $$lab $$servers $$drills $$line; do case $$code in 0|5) ;; *) exit $$code;; esac; done

test-unit: $(INSTALLED)
	$(BIN)/python -m pytest -m 'not live and not pulumi' $(ARGS)

drills-table: $(INSTALLED)
	$(BIN)/python -m trials.table $(ARGS)

drills-kill: $(INSTALLED)
	$(BIN)/python -m trials.kill $(ARGS)

bench-preview: $(INSTALLED)
	$(BIN)/python -m bench.preview $(ARGS)

up-kill: $(INSTALLED)
	$(BIN)/python -m trials.up_kill $(ARGS)

third-site: $(INSTALLED)
	$(BIN)/python -m trials.third_site $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/infra/test_policies_programs.py

clean:
	@if [ -x $(BIN)/tandem ]; then $(BIN)/tandem lab down; fi
	rm -rf $(VENV) .tandem .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
