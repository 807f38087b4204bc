# Okamochi's commands. `make` alone lists them; each target's purpose is after its `##`.
# For GNU make 3.81 and later (macOS ships 3.81).

# ---- settings: make serve PORT=8080 USECASES="digits wine my.toml"
USECASES = breast_cancer
PORT = 3000
MLFLOW_PORT = 5001
PYTHON =
TRIALS =
# FOLLOW=0: make serve serves what it begins with, until it is started again
FOLLOW =
ARGS =
# for load and soak: docs/loadtests.md
SHAPE = steady
USERS =
DURATION =
OBJECTIVES =
PROCESSES =
HOST =
# for test and test-deep: the suite waits a third of its time, so three processes keep two cores busy; ARGS=-n0 uses one, which --pdb needs
AT_ONCE = -n 3 --dist loadfile --no-loadscope-reorder
# for backup and restore: docs/operations.md
BACKUP =
# for image, cluster and rollout: docs/kubernetes.md
IMAGE =
BASE_IMAGE = python:3.11-slim
BUILD_ARGS =
CONTEXT =
IMAGE_LOADER =
TIMEOUT = 300

SHELL = /bin/sh
.DEFAULT_GOAL = help
RUN = .venv/bin/python

# No tool that make starts sends usage statistics.
export BENTOML_DO_NOT_TRACK = True
export MLFLOW_DISABLE_TELEMETRY = true
export ORT_DISABLE_TELEMETRY = 1
export PYTHONUNBUFFERED = 1

environment = python=$$(sh deploy/find_python.sh "$(PYTHON)") && "$$python" -m deploy.environment
image = $(if $(IMAGE),--image "$(IMAGE)") --base-image "$(BASE_IMAGE)" --build-args="$(BUILD_ARGS)"
cluster = --context "$(CONTEXT)" --loader="$(IMAGE_LOADER)" --timeout "$(TIMEOUT)"
trials = $(if $(TRIALS),--trials $(TRIALS))

.PHONY: help
help: ## list these commands
	@echo 'Okamochi: from a table of data to a model that serves. Commands:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile
	@echo 'Settings: PORT=$(PORT) MLFLOW_PORT=$(MLFLOW_PORT) USECASES="$(USECASES)" TRIALS=n PYTHON=path'

.PHONY: serve
serve: ## train what is new or has changed, then serve USECASES on 127.0.0.1:PORT
	@$(environment) training --port "$(PORT)" --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m deploy serve $(USECASES) --port $(PORT) --mlflow-port $(MLFLOW_PORT) $(trials) $(if $(filter 0,$(FOLLOW)),--no-follow)

.PHONY: train
train: ## train USECASES again and promote the models that pass the gate
	@$(environment) training --rebuild-for "$(PYTHON)"
	@for usecase in $(USECASES); do $(RUN) -m training run "$$usecase" $(trials) || exit $$?; done

.PHONY: evaluate
evaluate: ## measure the documented held-out figures over ten splits (ARGS="iris --salts 2": fewer)
	@$(environment) training --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m training.decide.evaluate_splits $(trials) $(ARGS)

.PHONY: evaluate-public
evaluate-public: ## train public tables by init and run, beside AutoGluon (ARGS="ames tate": some of them)
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m benchmarks.public $(ARGS)

.PHONY: bundle
bundle: ## put the champions of USECASES into BentoML's model store and models.lock (ARGS=--only: remove others)
	@$(environment) training --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m deploy bundle $(USECASES) $(ARGS)

.PHONY: image
image: ## build the image IMAGE (okamochi:local) of the server with the bundled models
	@$(environment) training --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m deploy image $(image)

.PHONY: cluster
cluster: ## serve the bundled models on kind, or on the cluster CONTEXT with IMAGE_LOADER
	@$(environment) training --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m deploy cluster $(image) $(cluster)

.PHONY: rollout
rollout: ## roll out the champions of USECASES (or IMAGE=) on the cluster; undo it if a golden row differs
	@$(environment) training --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m deploy rollout $(USECASES) $(image) $(cluster)

.PHONY: backup
backup: ## write the registry, stored models, models.lock and prediction log into backups/ (or to BACKUP)
	@$(environment) training --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m deploy backup $(if $(BACKUP),--to "$(BACKUP)") $(ARGS)

.PHONY: restore
restore: ## restore the archive BACKUP, here or in another checkout (ARGS=--overwrite: move existing state aside)
	@$(environment) training --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m deploy restore $(ARGS) "$(BACKUP)"

.PHONY: mlflow
mlflow: ## open the experiments in the MLflow UI on 127.0.0.1:MLFLOW_PORT
	@$(environment) training --port "$(MLFLOW_PORT)" --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m deploy mlflow --port $(MLFLOW_PORT)

.PHONY: test
test: ## run the tests of every change (ARGS="-k name" selects tests)
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m pytest $(AT_ONCE) -m "not deep" $(ARGS)

.PHONY: test-deep
test-deep: ## run the tests that `make test` leaves out: faults, long ways, corpora of models, Spark, a browser (ARGS as of test)
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m pytest $(AT_ONCE) -m deep $(ARGS)

.PHONY: check
check: ## run the formatter, the linter and the type checker
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy

.PHONY: coverage
coverage: ## run the tests of `make test` and list the lines and branches that they do not run, servers included (ARGS as of test)
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@mkdir -p reports/coverage && $(RUN) -m coverage erase
	@$(RUN) -m pytest $(AT_ONCE) -m "not deep" --cov --cov-report= $(ARGS); status=$$?; $(RUN) -m coverage report; exit $$status

.PHONY: bench
bench: ## compare with other ways to serve the same models (QUICK=1: under three minutes)
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m benchmarks $(if $(QUICK),--quick) $(ARGS)

.PHONY: bench-score
bench-score: ## measure deploy score on 1 and 10 million rows (ARGS=MODEL: a folder or tag of a model of numbers)
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m benchmarks.score $(ARGS)

.PHONY: faults
faults: ## test a running server under faults at full size; figures in reports/faults.json
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@OKAMOCHI_FAULTS=1 exec $(RUN) -m pytest tests/faults $(ARGS)

.PHONY: load
load: ## load HOST (127.0.0.1:PORT) in a SHAPE with USERS for DURATION, judge by OBJECTIVES; report in reports/load/
	@$(environment) loadtests --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m locust -f loadtests/locustfile.py --headless --shape "$(SHAPE)" \
		--host "$(or $(HOST),http://127.0.0.1:$(PORT))" $(if $(USERS),--users "$(USERS)") \
		$(if $(DURATION),--run-time "$(DURATION)") $(if $(OBJECTIVES),--objectives "$(OBJECTIVES)") \
		$(if $(PROCESSES),--processes "$(PROCESSES)") \
		--html "reports/load/$(SHAPE).html" --csv "reports/load/$(SHAPE)" $(ARGS)

.PHONY: clients
clients: ## write docs/clients.md from the OpenAPI of HOST (127.0.0.1:PORT), a server of breast_cancer
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@exec $(RUN) docs/clients.py "$(or $(HOST),http://127.0.0.1:$(PORT))"

.PHONY: soak
soak: ## measure whether a server's memory grows in 15 minutes of full load (HOST: a running server on this machine)
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m loadtests.soak $(if $(HOST),--host "$(HOST)") $(ARGS)

.PHONY: test-cluster
test-cluster: ## test a Deployment on kind or CONTEXT under faults; figures in reports/cluster.json
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@OKAMOCHI_CLUSTER="$(or $(CONTEXT),kind)" OKAMOCHI_IMAGE_LOADER="$(IMAGE_LOADER)" exec $(RUN) -m pytest tests/cluster $(ARGS)

.PHONY: test-frameworks
test-frameworks: ## export networks of PyTorch, Keras and TensorFlow as the recipes say, and serve them (installs 7 GB)
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@$(RUN) -m venv .okamochi/frameworks
	@.okamochi/frameworks/bin/python -m pip install --quiet --require-hashes -r requirements/frameworks.txt
	@.okamochi/frameworks/bin/python tests/frameworks/export.py reports/frameworks
	@OKAMOCHI_FRAMEWORKS=reports/frameworks exec $(RUN) -m pytest -n0 tests/training/imported/test_frameworks.py $(ARGS)

.PHONY: lock
lock: ## resolve pyproject.toml's groups into requirements/ (ARGS=--upgrade takes newer versions)
	@$(environment) dev --rebuild-for "$(PYTHON)"
	@exec $(RUN) -m deploy lock $(ARGS)

.PHONY: clean
clean: ## delete this checkout's models, experiments and caches (.venv stays)
	rm -rf mlflow.db* mlruns mlartifacts models.lock* .okamochi reports target
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
