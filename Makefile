# Everything a person or CI types. Each target sets up what it needs and is quick when nothing changed.
#
#   make run    a registrar with two demo users in the foreground       (ADDRESS, PORT_OFFSET)
#   make test   lint and every test, real clients included, with the compiled modules and then with their twins in Python
#                                                                       (PYTEST="-k name" to choose)
#   make test-compiled, make test-pure    one half of it
#   make test-long      tests that take long and show by other ways, or at more servers, what others show
#   make test-lvs       the rendered keepalived.conf on two IPVS directors in User-Mode Linux; as root
#   make fuzz   five minutes of messages that the scanner, its twin and the parser must agree about
#   make lint   ruff, mypy, the floor check, changelog fragments
#   make bench  CPU and memory of the server beside Debian's Kamailio    (BENCH="--case tcp-digest" to choose)
#   make bench-full     the same with every case and more rounds, half an hour
#   make bench-million  a million registered phones at once, which needs 16 GiB
#   make simulate       the choice of media nodes in 60 worlds beside ten others, ~8 minutes  (SIMULATE="--small --seeds 2" for a look)
#   make media-bench    the same with real rtpengines and packets, beside Kamailio's, for what it takes to leave a bad way
#   make soak   a long run under load, then five minutes in which registrars and Redis servers of a cluster die
#   make lock   resolve the requirements again
#   make clean  remove what the targets above made, the demo's database too

PYTHON ?= python3
ADDRESS ?=
PORT_OFFSET ?= 0
PYTEST ?=
BENCH ?=
SIMULATE ?=
MEDIA_BENCH ?=

VENV := .venv
BIN := $(VENV)/bin
RUN_READY := $(VENV)/ready-to-run
COMPILED := $(VENV)/compiled
TEST_READY := $(VENV)/ready-to-test
BENCH_READY := $(VENV)/ready-to-bench
BROWSER := tests/interop/browser
BROWSER_READY := $(BROWSER)/node_modules/.package-lock.json
CYTHON_SOURCES := $(shell find rollcall registrar -name '*.pyx' -o -name '*.pxi' -o -name '*.pxd')
# In place, and a moment's work when nothing changed.
COMPILE := $(BIN)/python setup.py --quiet build_ext --inplace
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
# setuptools is locked too: the editable install builds with it, without a second download.
PIP_COMPILE := CUSTOM_COMPILE_COMMAND="make lock" build/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe \
	--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --build-deps-for editable

.PHONY: run test test-compiled test-pure test-long test-lvs fuzz lint bench bench-full bench-million simulate media-bench soak lock clean
.DELETE_ON_ERROR:
# What compiles comes after what installs the compiler, and both after what installs Cython.
.NOTPARALLEL:

run: $(RUN_READY) $(COMPILED)
	@exec $(BIN)/rollcall demo --dir run --port-offset $(PORT_OFFSET) $(if $(ADDRESS),--address $(ADDRESS))

test: lint test-compiled test-pure

# Three at a time, for most of them wait most of the time. Tried once is what has no compiled part: whole clusters, media, tools,
# wheels, and processes that start others or are killed.
SIDE_BY_SIDE := -n 3 --dist loadfile
TRIED_ONCE := $(addprefix --ignore=tests/,cluster balancer tools rollcall/media packaging/test_wheel.py) $(addprefix --ignore-glob=tests/interop/test_,'media_*' 'workers*' 'regevent_workers*' 'demo*' 'crash*')

test-compiled: $(BROWSER_READY) $(COMPILED)
	@$(BIN)/python -m pytest $(or $(PYTEST),$(SIDE_BY_SIDE))

test-pure: $(BROWSER_READY)
	@ROLLCALL_PURE=1 $(BIN)/python -m pytest $(or $(PYTEST),$(SIDE_BY_SIDE) $(TRIED_ONCE))

test-long: $(BROWSER_READY) $(COMPILED)
	@$(BIN)/python -m pytest -m long $(PYTEST)

test-lvs: $(TEST_READY) $(COMPILED)
	@tools/setup-uml
	@$(BIN)/python -m pytest -m lvs tests/lvs $(PYTEST)

fuzz: $(TEST_READY) $(COMPILED)
	@exec $(BIN)/python -m tools.fuzz_scanner --seconds 300

lint: $(TEST_READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tools.check_floors
	$(BIN)/towncrier build --draft --config towncrier.toml > /dev/null

bench: $(BENCH_READY) $(COMPILED)
	@exec $(BIN)/python -m tools.bench register --rounds 3 --seconds 1 --check tools/bench/accepted.json $(BENCH)

bench-full: $(BENCH_READY) $(COMPILED)
	@exec $(BIN)/python -m tools.bench register --all --check tools/bench/accepted.json $(BENCH)

bench-million: $(BENCH_READY) $(COMPILED)
	@mkdir -p results
	@bash -o pipefail -c '$(BIN)/python -m tools.bench hold --phones 1000000 --rate 8000 --independent 2>&1 | tee results/hold-1000000.log'

simulate: $(RUN_READY) $(COMPILED)
	@exec $(BIN)/python -m tools.simulate $(SIMULATE)

media-bench: $(BENCH_READY) $(TEST_READY) $(COMPILED)
	@exec $(BIN)/python -m tools.laboratory.packet_bench $(MEDIA_BENCH)

soak: $(BENCH_READY) $(TEST_READY) $(COMPILED)
	@$(BIN)/python -m tools.bench soak
	@exec tools/lab churn

# The plugin cache is written once here, so that a server that may not write to its installation starts quietly.
$(RUN_READY): requirements/run.lock setup.cfg pyproject.toml
	@tools/setup-debian
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked requirements into $(VENV)"
	@$(PIP_INSTALL) --require-hashes -r requirements/run.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@$(BIN)/twistd --help > /dev/null
	@touch $@

$(COMPILED): $(CYTHON_SOURCES) setup.py | $(RUN_READY)
	@$(COMPILE)
	@touch $@

$(TEST_READY): $(RUN_READY) requirements/test.lock tools/setup-debian
	@tools/setup-debian --test
	@rm -f $(COMPILED)
	@$(PIP_INSTALL) --require-hashes -r requirements/test.lock
	@touch $@

$(BENCH_READY): $(RUN_READY) tools/setup-debian
	@tools/setup-debian --bench
	@rm -f $(COMPILED)
	@touch $@

$(BROWSER_READY): $(TEST_READY) $(BROWSER)/package.json $(BROWSER)/package-lock.json
	@cd $(BROWSER) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

lock:
	@rm -rf build/lock && $(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet pip-tools
	$(PIP_COMPILE) --output-file requirements/run.lock setup.cfg
	$(PIP_COMPILE) --extra test --extra lint --constraint requirements/run.lock --output-file requirements/test.lock setup.cfg

clean:
	rm -rf $(VENV) run build tools/bench/build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis $(BROWSER)/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find rollcall registrar -name '*.so' -delete
	rm -f twisted/plugins/dropin.cache
