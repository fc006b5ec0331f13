# One target for each job; `make` lists them. Every target that needs the environment creates .venv on its first call.

PYTHON ?= python3

VENV := .venv
PY := $(VENV)/bin/python
# Written as the last step of an installation, with the folder it was made in: an installation that was broken off, or
# that was copied here from another folder, has no valid stamp and is made anew.
STAMP := $(VENV)/.complete

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup train evaluate export study reproduce sweep agent test bench bench-ranks parity lint format docs build lock clean FORCE

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## create .venv and install everything (PYTHON=python3.12 uses another interpreter)
	@echo '$(VENV) is ready: $(PY) -m cmaml_pl, or make train EXP=point_goal.'

train: $(STAMP) ## meta-train: EXP=point_goal [ARM=maml] [CKPT=runs/.../last.ckpt] [ARGS="key=value ..."]
	@exec $(PY) -m cmaml_pl train $(if $(EXP),'exp=$(EXP)') $(if $(ARM),'arm=$(ARM)') $(if $(CKPT),'run.resume=$(CKPT)') $(ARGS)

evaluate: $(STAMP) ## adapt trained runs on held-out test tasks (the meta-test): RUN=runs/EXP/RUN_ID or RUN=[A,B,C] [ARGS="steps=3 ..."]
	@exec $(PY) -m cmaml_pl evaluate $(if $(RUN),'run=$(RUN)') $(ARGS)

export: $(STAMP) ## export a policy as safetensors, JSON and ONNX: CKPT=runs/.../last.ckpt [ARGS="out=FOLDER"]
	@exec $(PY) -m cmaml_pl export $(if $(CKPT),'ckpt=$(CKPT)') $(ARGS)

comma := ,
space := $(subst ,, )
list = [$(subst $(space),$(comma),$(strip $(1)))]
study: $(STAMP) ## train arms with seeds and compare them; a second call goes on: STUDY=nav2d, or EXP=nav2d [ARMS="cmaml maml"] [SEEDS="0 1"] [STEPS=3] [JOBS=2]
	@exec $(PY) -m cmaml_pl study $(if $(STUDY),'study=$(STUDY)') $(if $(EXP),'exp=$(EXP)') $(if $(ARMS),'arms=$(call list,$(ARMS))') \
		$(if $(SEEDS),'seeds=$(call list,$(SEEDS))') $(if $(STEPS),'steps=$(STEPS)') $(if $(JOBS),'jobs=$(JOBS)') $(ARGS)

reproduce: $(STAMP) ## run all studies of conf/study, and write report/index.html: [SCALE=quick, a trial in minutes] [JOBS=2]
	@exec $(PY) -m cmaml_pl study study=all $(if $(SCALE),'scale=$(SCALE)') $(if $(JOBS),'jobs=$(JOBS)') $(ARGS)

sweep: $(STAMP) ## create a W&B sweep from conf/sweep: EXP=point_goal [ARGS="key=value ..."]
	@exec $(PY) -m cmaml_pl sweep $(if $(EXP),'exp=$(EXP)') $(ARGS)

agent: $(STAMP) ## run trials of a W&B sweep: SWEEP=entity/project/id [ARGS="count=3"]
	@exec $(PY) -m cmaml_pl agent $(if $(SWEEP),'sweep=$(SWEEP)') $(ARGS)

test: $(STAMP) ## run the tests on all cores: [ARGS="-k gae"; ARGS="-n 0" for one process]
	@exec $(PY) -m pytest -n auto --maxprocesses 8 --dist worksteal $(ARGS)

bench: $(STAMP) ## time the engines against Safety-Gymnasium and Gymnasium: [ARGS="--quick"]
	@exec $(PY) -m benchmarks.engine_speed $(ARGS)

bench-ranks: $(STAMP) ## time several processes and their communication: [ARGS="--ranks 1 2 4"]
	@exec $(PY) -m benchmarks.ranks $(ARGS)

parity: $(STAMP) ## compare the engines' numbers with Safety-Gymnasium's: [ARGS="exact --seeds 1"]
	@exec $(PY) -m benchmarks.engine_parity $(ARGS)

lint: $(STAMP) ## check style, format, types and the order of imports
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-cache --no-logo

format: $(STAMP) ## format the code and fix what ruff can fix
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

docs: $(STAMP) ## build the documentation site, site/index.html; a broken link or reference is an error
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

build: $(STAMP) ## build dist/*.tar.gz, cmaml_pl's wheel from it, and the wheel of the engine alone
	@rm -rf dist
	@$(PY) -m build --no-isolation
	@exec $(PY) -m build --no-isolation --wheel --outdir dist engine

# Resolved in an environment of its own. Two things are left out: the name of a build (torch==2.13.0+cpu would be the CPU
# build alone; torch==2.13.0 is any), and the CUDA packages, which not every build needs and torch itself pins.
# The hashes are those of uv's default index, the public one, whatever else pip is told to look at.
lock: ## write requirements.lock and -hashes.lock from pyproject.toml (use the oldest supported Python: PYTHON=python3.11)
	@$(check_python)
	@echo 'Resolving the dependencies in a fresh environment; this takes some minutes.'
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
		$(PYTHON) -m venv "$$tmp/venv" && \
		"$$tmp/venv/bin/python" -m pip install -qq '.[dev,docs]' && \
		sed '/^[^#]/,$$d' requirements.lock > "$$tmp/lock" && \
		"$$tmp/venv/bin/python" -m pip freeze --all --exclude pip --exclude cmaml_pl > "$$tmp/freeze" && \
		grep -vE '^(nvidia-|cuda-|triton)' "$$tmp/freeze" | sed 's/+.*//' >> "$$tmp/lock" && \
		"$$tmp/venv/bin/python" -m pip install -qq uv && \
		{ grep -v '^torch==' "$$tmp/lock"; sed -n 's/^# no-deps: *//p' "$$tmp/lock"; } > "$$tmp/pins" && \
		sed '/^[^#]/,$$d' requirements-hashes.lock > "$$tmp/hashes" && \
		"$$tmp/venv/bin/uv" pip compile -q "$$tmp/pins" --python "$$tmp/venv/bin/python" --no-deps --generate-hashes \
			--no-annotate --no-header >> "$$tmp/hashes" && \
		cp "$$tmp/lock" requirements.lock && cp "$$tmp/hashes" requirements-hashes.lock

clean: ## remove .venv, caches and builds (runs/ is kept)
	@rm -rf $(VENV) dist site .mypy_cache .pytest_cache .ruff_cache
	@find src callbacks tests -name __pycache__ -type d -prune -exec rm -rf {} +

# One line and a failure, before anything is created or removed.
define check_python
version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || version=missing; \
case "$$version" in \
	3.11|3.12|3.13) ;; \
	*) echo "cmaml_pl needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is $$version: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12 takes another one." >&2; exit 1;; \
esac
endef

# No chatter; and an old pip builds the packages that come as source apart from this environment, as a new one does.
$(STAMP) lock: export PIP_DISABLE_PIP_VERSION_CHECK := 1
$(STAMP) lock: export PIP_NO_INPUT := 1
$(STAMP) lock: export PIP_USE_PEP517 := 1

ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif

# A complete environment is brought up to date in place, without its stamp meanwhile; anything else is made anew.
$(STAMP): pyproject.toml requirements.lock
	@if [ "$$(cat $@ 2>/dev/null)" = '$(CURDIR)' ] && $(PY) -c '' 2>/dev/null; then \
		rm $@; \
	else \
		$(check_python); \
		if [ -e $(VENV) ]; then echo '$(VENV) is incomplete or was made in another folder: making it anew.'; fi; \
		rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); \
	fi
	@echo 'Installing the versions in requirements.lock into $(VENV); this takes some minutes.'
	@$(PY) -m pip install -qq -r requirements.lock
	@$(PY) -m pip install -qq --no-deps $$(sed -n 's/^# no-deps: *//p' requirements.lock)
	@$(PY) -m pip install -qq --no-deps --no-build-isolation -e .
	@printf '%s\n' '$(CURDIR)' > $@
