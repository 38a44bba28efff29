# make run: the first scenario, live.  make check: format, lint, types.  make test: the suite for every change.
# make test-all: that and everything slow.  make hil: the hardware loop, with this computer as the board.  make bench: speed.
# make browser: the pages in a real browser.
# make golden: the pinned numbers, written again, with what changed.  make fuzz: ten minutes of broken inputs (SECONDS, SEED).
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests at once: about 2 GB of memory each. 0 is one after the other in one process, as `python -m pytest` runs them.
WORKERS ?= 2
# A test that hangs says where after half an hour, and fails; a busy machine needs minutes for one of seconds.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -o faulthandler_timeout=1800 -o faulthandler_exit_on_timeout=true
# A handful for the picture; without names the script takes every model.
COMPILED := llama-3.2-1b llama-3.2-3b llama-3.1-8b qwen3-4b draft-68m-llama3 hilsim.networks.intent:matcher hilsim.networks.intent:matcher_22m

SECONDS ?= 600

.PHONY: run test test-all browser golden fuzz check hil bench pictures notebooks transcripts plans schemas docs clean

run: $(READY)
	$(BIN)/python simulate.py scenarios/orin_8295.yaml

test: $(READY)
	$(PYTEST)

test-all: $(READY)
	$(PYTEST) -m "not browser"

# Pages in the system's Chromium (or Chrome), without a window.
browser: $(READY)
	$(BIN)/python -m pytest -m browser tests/browser

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

hil: $(READY)
	$(BIN)/python scripts/hil.py

golden: $(READY)
	$(BIN)/python -m tests.golden

# What is found is shrunk and kept under tests/data/found/, which a test reads again (docs/robustness.md).
fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

bench: $(READY)
	$(BIN)/python -m tests.bench

pictures: $(READY)
	$(BIN)/python simulate.py scenarios/orin_8295.yaml --plain --out out/pictures > /dev/null
	mkdir -p docs/orin_8295
	cp out/pictures/dashboard.svg out/pictures/timeline.png docs/orin_8295/
	$(BIN)/python scripts/compare_policies.py --plot docs/comparisons/policies.png > /dev/null
	$(BIN)/python scripts/payloads.py --plot docs/comparisons/payloads.png > /dev/null
	$(BIN)/python scripts/where_2_5.py --plot docs/comparisons/where_2_5.png > /dev/null
	$(BIN)/python -m hilsim explore scenarios/orin_8295_greedy.yaml --plot docs/comparisons/placements.png > /dev/null
	mkdir -p docs/hardware
	$(BIN)/python scripts/this_computer.py --plot docs/hardware/this_computer.png > /dev/null
	$(BIN)/python scripts/two_agents.py --trials 5 --plot docs/hardware/two_agents.png > /dev/null
	$(BIN)/python scripts/compile_profiles.py $(COMPILED) --plot docs/comparisons/profiles.png > /dev/null

# The notebooks of docs/notebooks, run again, with what they print.
notebooks: $(READY)
	$(BIN)/python scripts/notebooks.py

# Half a minute: what the stand-ins say in the shipped scenarios.
transcripts: $(READY)
	$(BIN)/python scripts/record_transcripts.py

# What their models compile to; after a change of the compiler, the networks or the operator tables.
plans: $(READY)
	$(BIN)/python scripts/record_plans.py

# The documentation site, into out/site; fails on a broken link.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# JSON Schema of the described files; after a change of their records.
schemas: $(READY)
	$(BIN)/python scripts/write_schemas.py

# One environment for everything; made again only when the pins change.
$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "hilsim needs Python 3.11 or newer: '$(PYTHON)' is none. Install it, or say make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis
