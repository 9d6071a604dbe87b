# What can be done with a checkout. Everything works on a fresh Debian 12 as root.
SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.requirements
# tests start hundreds of processes of ours: none of them should compile what another one has
unexport PYTHONDONTWRITEBYTECODE
# processes that share the long tests: with two, two processors are idle for a fifth of the time, with three for a tenth
WORKERS := 3
PAGES := api/pages
VENDOR := $(PAGES)/static/vendor
FRONT_END := htmx.org/dist/htmx.min.js htmx.org/dist/ext/hx-sse.min.js hls.js/dist/hls.light.min.js

# Debian packages that the lab, the tests and the demo use on this machine (stations get theirs from the catalogue)
HOST_PACKAGES := python3-venv ffmpeg iproute2 mmdebstrap nginx-light openssh-client openssh-server procps rclone strace \
	systemd-journal-remote systemd-container e2fsprogs fonts-dejavu-core git python3-asyncssh postgresql \
	chromium python3-aiohttp python3-aio-pika python3-pil rabbitmq-server

.PHONY: help venv packages lock check lint unit test molecule long soak demo docs pictures clean bench-apply bench-edit bench-hello bench-pages bench-runs bench-stills bench-visuals

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

venv: $(STAMP) $(VENDOR)/.packages ## make .venv with everything in it, and fetch what the page loads

$(STAMP): requirements.lock pyproject.toml | packages
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(VENDOR)/.packages: $(PAGES)/package-lock.json | packages
	cd $(PAGES) && npm ci --ignore-scripts --no-progress --loglevel=error
	mkdir -p $(VENDOR)
	cp $(addprefix $(PAGES)/node_modules/,$(FRONT_END)) $(VENDOR)/
	touch $@

packages: ## install the Debian packages that are missing
	@missing=$$(command -v npm >/dev/null || echo npm; for package in $(HOST_PACKAGES); do dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		echo "installing:" $$missing; \
		export DEBIAN_FRONTEND=noninteractive; \
		(apt-get update -q && apt-get install -yq --no-install-recommends $$missing) >/tmp/stationmaster-apt.log 2>&1 \
			|| { tail -n 30 /tmp/stationmaster-apt.log; exit 1; }; \
	fi

lock: venv ## pin all requirements again, with hashes
	cd $(PAGES) && npm update --package-lock-only --loglevel=error
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 --upgrade requirements.in -o requirements.lock
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 --constraint requirements.lock api/requirements.in -o api/requirements.lock
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --python-version 3.11 --upgrade bench/requirements.in -o bench/requirements.lock

check: venv ## lint, types, unit tests: under 90 s
	@$(MAKE) --no-print-directory --output-sync=target -j2 lint unit

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.lint --offline --strict -q

unit: venv
	$(BIN)/python -m pytest -n 2 -m "not lab and not media and not manager and not slow and not soak"

test: check ## every check, in the lab too
	@$(BIN)/python -c "from pathlib import Path; from stationmaster.lab import image; \
		image.ensure(image.role_packages(Path('roles')), print)" # a minute the first time; no test's own
	@$(MAKE) --no-print-directory molecule
	@$(MAKE) --no-print-directory long

molecule: venv
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test

long: venv
	$(BIN)/python -m pytest -n $(WORKERS) --durations=30 -m "(lab or media or manager or slow) and not soak"

soak: venv ## what takes long
	$(BIN)/python -m pytest -m soak

demo: venv ## a conference in a box: two rooms, six stations, a talk from camera to archive
	$(BIN)/python -m stationmaster.demo

docs: venv ## write the generated reference pages
	$(BIN)/python -m stationmaster.reference docs

pictures: venv ## renew the pictures of the documentation, from the tests that make them
	$(BIN)/python -m pytest tests/pages/test_lab.py tests/visuals/test_screen.py -m "not soak"
	mkdir -p docs/pictures
	cp $$(cat README.md docs/*.md | grep -oE 'pictures/[a-z-]+\.png' | sort -u | sed 's|^|.state/|') docs/pictures/

bench-apply: venv ## how fast an apply is, against its rivals
	$(BIN)/python -m bench.apply

bench-edit: venv ## how long an edit takes to its station, by hand and through the manager
	$(BIN)/python -m bench.edit

bench-runs: venv ## what a run through the manager costs over bare ansible-playbook
	$(BIN)/python -m bench.runs

bench-hello: venv ## how many hellos a second the manager takes, against a bare endpoint
	$(BIN)/python -m bench.hello

bench-pages: venv ## what 20 open pages cost the manager with 200 stations
	$(BIN)/python -m bench.pages

bench-stills: venv ## how many pictures a second reach 1,000 clients, against a plain loop that writes the same bytes
	$(BIN)/python -m bench.stills

bench-visuals: venv ## how fast visuals reach 1,000 and 10,000 subscribers, against RabbitMQ's STOMP plugin
	$(BIN)/python -m bench.visuals

clean: ## remove all that the other targets made
	@if [ -x $(BIN)/ansible-playbook ]; then $(BIN)/python -m stationmaster.lab clean .; fi
	rm -rf $(PAGES)/node_modules $(VENDOR) $(VENV) .venv-bench .state .ansible build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
