# Everything goes through one environment, made from constraints.txt.
PYTHON ?= python3
SCENES ?= under-25
BIN := .venv/bin
ALL := under-25 25-34 35-and-over

.DEFAULT_GOAL := help
.PHONY: help env demo demo-long test test-containers images manifests check bench golden clean

help: ## This list.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

env: .venv/complete ## The environment, from pinned constraints.

.venv/complete: constraints.txt setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,pipeline]'
	touch $@

demo: env ## MovieLens-1M, users under 25; SCENES=all runs three age groups.
	$(BIN)/distilrec fetch movielens-1m
	$(BIN)/distilrec run $(patsubst %,scenes/ml1m-%.yaml,$(if $(filter all,$(SCENES)),$(ALL),$(SCENES)))

demo-long: env ## Users of 35 and over, trained long enough to pass the Markov floor.
	$(BIN)/distilrec fetch movielens-1m
	$(BIN)/distilrec run scenes/ml1m-35-and-over-long.yaml

test: env ## All tests, two files at a time.
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist loadfile

test-containers: env ## The pipeline in containers, on a container engine, S3, MLflow and PostgreSQL of its own (root, Debian).
	tests/containers/install.sh
	$(BIN)/python -m pytest tests/containers

images: env ## Build and push both images: make images BASE=IMAGE@sha256:... REGISTRY=registry.example/team
	$(BIN)/python images/build.py --base $(BASE) --registry $(REGISTRY)

manifests: env ## Render the manifests and check them against Kubernetes' schemas.
	$(BIN)/python manifests/check.py

check: env ## Lint, format and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src

bench: env ## The small comparisons, as ratios to the committed results (installs the peers once, into .peers/).
	$(BIN)/python -m benchmarks.throughput --quick

golden: env ## Compile components and pipeline into their committed YAML, and the lists in docs/.
	$(BIN)/python -m tests.regenerate

clean: ## Everything that can be made again, runs excepted.
	rm -rf .venv .peers build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
