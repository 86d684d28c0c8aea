# The commands a person runs. Continuous integration runs the same ones.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# onnxruntime-gpu where a driver answers, onnxruntime elsewhere: never both.
RUNTIME := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo serve test lint format bench bench-quality reliability monitoring dashboards chart security fuzz images proto clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing LaViSE into $(VENV) (a few minutes the first time) ..."
	$(INSTALL) --editable '.[$(RUNTIME),teach,serve]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	$(INSTALL) --editable '.[$(RUNTIME),teach,serve,dev]'
	$(BIN)/python scripts/install_helm.py
	@touch $@

demo: $(VENV)/.run ## Teach, serve and ask, from nothing to words on a photograph
	@$(BIN)/lavise demo

serve: $(VENV)/.run ## Serve the demo bundle in the foreground until Ctrl-C
	@$(BIN)/lavise demo --serve

lint: $(VENV)/.dev ## ruff, mypy, buf
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/lint_proto.py

test: lint ## Lint, then every test, the real servers included; ARGS=tests/lavise for some
ifdef ARGS
	$(BIN)/pytest $(ARGS)
else
	$(BIN)/pytest -n 2 --dist loadfile -m "not server"
	$(BIN)/pytest -n 2 --dist loadfile -m server
endif

format: $(VENV)/.dev ## Put the code into its one form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure; ONLY=name runs one row
	$(BIN)/python benchmarks/run.py $(if $(ONLY),--only $(ONLY))

bench-quality: $(VENV)/.dev ## Measure how good the words are; ONLY=name runs one row
	$(BIN)/python benchmarks/run.py --quality $(if $(ONLY),--only $(ONLY))

reliability: $(VENV)/.dev ## Load and faults for ten minutes, into docs/reliability.md; ARGS="--minutes 2"
	$(BIN)/python reliability/run.py $(ARGS)

monitoring: $(VENV)/.dev ## Check rules and dashboards against real servers and a real Prometheus
	$(BIN)/python -m scripts.check_monitoring

dashboards: $(VENV)/.dev ## Make Grafana's dashboards again
	$(BIN)/python -m scripts.make_dashboards

chart: $(VENV)/.dev ## Check the Helm chart and KServe's manifests
	$(BIN)/python -m scripts.check_chart

security: $(VENV)/.dev ## bandit, and build/sbom.json
	$(BIN)/python -m scripts.check_security

fuzz: $(VENV)/.dev ## Fuzz the image decoder, the bundle opener and the request reader, RUNS each; ONLY=bundle
	$(BIN)/python -m scripts.fuzz $(if $(RUNS),--runs $(RUNS)) $(if $(ONLY),--only $(ONLY))

images: $(VENV)/.dev ## Build the container images, run them, check them (as root, 15 minutes)
	$(BIN)/python scripts/check_images.py $(ARGS)

proto: $(VENV)/.dev ## Make the code of the contract again
	PYTHON=$(BIN)/python scripts/generate_proto.sh

clean: ## Remove what was built
	rm -rf $(VENV) build dist model_store/*.mar model_store/*.json model_store/*/
