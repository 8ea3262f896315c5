# `make help` lists what there is. Works with the make of macOS (3.81), from any folder (-f, -C), and
# in a path with spaces: hence the quotes, and `python -m X` in place of the environment's scripts,
# whose first line cannot hold a space.

quote = '$(subst ','\'',$(1))'
here := $(shell printf '%s' $(call quote,$(MAKEFILE_LIST)) | sed 's/^ *//')
root := $(call quote,$(shell dirname $(call quote,$(here))))

# exec, so that what make starts is what make's signals and its end reach.
install := cd $(root) && exec sh launcher/with_python.sh launcher/install.py
runtime := requirements.txt requirements-embedded.txt
everything := $(runtime) requirements-dev.txt
python := .venv/bin/python
# noVNC, by npm; without it all but the console's page works.
npm := cd $(root) && exec $(python) -m launcher.npm
launcher := cd $(root) && exec $(python) -m launcher --follow-parent
check_env := IZVOR_SECRET_KEY=for-checks-only
# Enough for tools that read the settings and connect to nothing.
no_servers := $(check_env) DATABASE_URL=postgres://unused@127.0.0.1/unused REDIS_URL=redis://127.0.0.1

# $(call apart,NAME): requirements-NAME.txt in .venv-NAME, where they get in nobody's way.
apart = cd $(root) && { cmp -s requirements-$(1).txt .venv-$(1)/installed.txt || { \
	rm -rf .venv-$(1) && $(python) -m venv .venv-$(1) && \
	.venv-$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
		--no-deps --require-hashes -r requirements-$(1).txt && \
	cp requirements-$(1).txt .venv-$(1)/installed.txt; }; }

.PHONY: help build dev flower test test-slow lint fmt lock clean bench conformance chaos peers audit

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 | \2/p' $(call quote,$(here)) | awk -F'|' '{printf "%-20s%s\n", $$1, $$2}'

build: ## install everything into .venv, start nothing
	@$(install) $(everything)
	@$(npm) install

dev: ## all of Izvor on http://127.0.0.1:8082 with a simulated Proxmox; Ctrl-C stops it
	@$(install) $(runtime)
	@$(npm) install --daily
	@$(launcher) dev

flower: ## Celery's monitor for the running `make dev`, on http://127.0.0.1:5555
	@$(launcher) flower

test: ## the test suite, on servers of its own (ARGS="-k word" picks)
	@$(install) $(everything)
	@$(npm) install
	@$(launcher) run -- $(python) -m pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

test-slow: ## the tests that take longer: real kills, a fresh clone brought up
	@$(install) $(everything)
	@$(npm) install
	@$(launcher) run -- $(python) -m pytest -n 2 --dist loadfile -m slow $(ARGS)

bench: ## how fast it is, against floors measured beside it (ARGS="list-100 --record" …)
	@$(install) $(everything)
	@cd $(root) && exec $(python) -m benchmarks $(ARGS)

conformance: ## replay recorded Proxmox exchanges against the simulator
	@$(install) $(everything)
	@cd $(root) && $(python) -m tests.simulator.conformance

chaos: ## ten minutes of requests while everything around them breaks (ARGS="--seed 2" …)
	@$(install) $(everything)
	@cd $(root) && exec $(python) -m tests.chaos $(ARGS)

peers: ## Ansible's collection for Proxmox drives a simulator (550 MB in .venv-peers)
	@$(install) $(everything)
	@$(call apart,peers)
	@cd $(root) && exec $(python) -m tests.simulator.peers.run

audit: ## known vulnerabilities of the pinned packages (asks PyPI; ARGS=--if-reachable)
	@$(install) $(everything)
	@$(call apart,audit)
	@cd $(root) && exec .venv-audit/bin/python .ci/audit.py $(ARGS) $(runtime)

lint: ## ruff, mypy, the import rules, missing migrations
	@$(install) $(everything)
	cd $(root) && $(python) -m ruff check .
	cd $(root) && $(python) -m ruff format --check .
	cd $(root) && $(no_servers) $(python) -m mypy .
	cd $(root) && $(python) -c 'from importlinter.cli import lint_imports_command as lint; lint()'
	$(launcher) run -- env $(check_env) $(python) manage.py makemigrations --check --dry-run

fmt: ## format the code, and fix what ruff can fix
	@$(install) $(everything)
	cd $(root) && $(python) -m ruff check --fix-only .
	cd $(root) && $(python) -m ruff format .

lock: ## pin requirements*.in and package.json anew, with hashes
	@$(install) $(everything)
	$(npm) lock
	cd $(root) && for name in requirements requirements-embedded requirements-dev requirements-peers \
		requirements-npm requirements-audit; do \
		$(python) -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-header \
			--no-emit-index-url --quiet $$name.in -o $$name.txt || exit 1; \
	done

clean: ## remove .venv, node_modules, .izvor (all local data!) and caches
	@cd $(root) && sh launcher/with_python.sh -m launcher clean
	@cd $(root) && rm -rf .venv .venv-peers .venv-audit node_modules staticfiles .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	@cd $(root) && find . -name __pycache__ -type d -prune -exec rm -rf {} +
