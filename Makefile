# Every command of the project, the same here and in CI. `make demo` and `make test` work on a machine with Python 3.11+ alone.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed-dev
DEMO_STAMP := $(VENV)/.installed-demo
comma := ,

.PHONY: demo test test-all check format bench kill adversarial kafka-faults completeness-worlds image wheels clean

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "asgi-audit needs Python 3.11 or newer; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "this Python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv, or say another with: make PYTHON=…"; exit 1; }
	@echo "Making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# One dot for each package. Errors of pip are shown, and its exit code is kept.
define install
	@echo "Installing asgi-audit and its packages ($(1)) into $(VENV); once, less than a minute:"
	@{ $(PY) -m pip install --disable-pip-version-check --progress-bar off -e '.[$(1)]'; echo "exit $$?"; } | \
	while read -r line; do case "$$line" in \
		Collecting*) printf . ;; \
		'Installing collected'*) echo ' downloaded; unpacking' ;; \
		exit*) exit "$${line#exit }" ;; \
	esac; done
endef

$(STAMP): pyproject.toml | $(PY)
	$(call install,dev)
	@touch $(STAMP) $(DEMO_STAMP)

$(DEMO_STAMP): pyproject.toml | $(PY)
	$(call install,server$(comma)demo)
	@touch $(DEMO_STAMP)

demo: $(DEMO_STAMP) ## the main job, embedded, over a real application; ends by itself
	$(VENV)/bin/asgi-audit demo

# A worker for each core, at most 4; each takes the next file. Our modules are compiled once and not by each child, also
# when the environment disables bytecode files.
test test-all: export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(PY) -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(STAMP) ## while working: under three minutes on two cores, without Java and Docker
	$(PYTEST) -m "not full"

test-all: $(STAMP) ## everything; tests that need what the machine lacks skip and say how to get it, with CI=true they fail
	$(PYTEST) --durations=20 --durations-min=10

check: $(STAMP) ## formatting, lint, types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: $(STAMP)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(STAMP) ## the full benchmark; `make test-all` runs it tiny
	$(PY) -m tests.bench

kill: $(STAMP) ## the long kill -9 runs: 30 times the application, 50 times the indexer, 20 times an export
	$(PY) -m tests.fault.kill_application --times 30
	$(PY) -m tests.fault.kill_indexer --times 50
	$(PY) -m tests.fault.kill_exports --times 20

adversarial: $(STAMP) ## thousands of inputs that are made to be slow, for all that searches untrusted bytes
	$(PY) -m tests.fault.adversarial

kafka-faults: $(STAMP) ## the Kafka fault table in full, about 15 minutes; needs java 17+ and mvn
	$(PY) -m tests.fault.kafka_table

completeness-worlds: $(STAMP) ## 5,000 random worlds against the rule of completeness, about 10 minutes
	$(PY) -m tests.completeness_worlds --worlds 5000

# Variables that a build needs to reach a package index; those that are set are passed to it.
BUILD_ARGS := PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST PIP_NO_INDEX HTTP_PROXY HTTPS_PROXY NO_PROXY

image: ## the Docker image, as asgi-audit:latest and by its version; BUILD='--network host' adds to the build
	docker build -f docker/Dockerfile $(foreach name,$(BUILD_ARGS),$(if $($(name)),--build-arg $(name))) $(BUILD) \
	  -t asgi-audit:latest -t asgi-audit:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) .

wheels: $(PY) ## for a build that reaches no package index: `make wheels`, then `PIP_NO_INDEX=1 make image`
	$(PY) docker/requirements.py pyproject.toml all build >docker/wheels/requirements.txt
	$(PY) -m pip download -q --disable-pip-version-check -d docker/wheels -r docker/wheels/requirements.txt --only-binary :all: \
	  --python-version 3.13 $(foreach glibc,2_28 2_17,--platform manylinux_$(glibc)_$(shell uname -m)) --platform manylinux2014_$(shell uname -m)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
