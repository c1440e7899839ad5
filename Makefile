SHELL := bash
.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)
# The output of `sam build`: for each function a folder with its name in the template.
ARTIFACTS := $(TARGET)/sam
ARCHITECTURE := $(if $(filter arm64 aarch64,$(shell uname -m)),arm64,x86_64)
MACHETE := 0.9.2
# The emulator must not be the bottleneck of a measurement.
OPTIMIZED := --config profile.dev.opt-level=3

# The folders of cargo lambda, sam, k6 and checkov.
export PATH := $(CURDIR)/.venv/bin:$(PATH):$(CURDIR)/.venv/checkov/bin
export SAM_CLI_TELEMETRY := 0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: stores build ## Start everything on this machine; ARGS="--port 9000 --aws-port 9001 --ephemeral"
	@exec $(TARGET)/debug/local run $(ARGS)

# Tests and measurements use stores of their own, of the versions in template.yaml.
test loadtest bench: export DATABASE_URL :=
test loadtest bench: export REDIS_URL :=
test loadtest bench: export STORES := deployed
test: export POSTGRES_BIN :=
test: export REDIS_SERVER :=

.PHONY: test
test: tools stores distribution browser tests artifacts ## All tests: the code, then the running stack
	$(TARGET)/debug/local stores -- cargo test --workspace --locked
	STORES=distribution $(TARGET)/debug/local stores -- scripts/test_built.sh \
		local/stores shared/stores shared/ledger shared/ranking functions/votes
	scripts/test_stack.sh
	$(TARGET)/debug/local chaos --seed 1

# Always the debug build: the release build has no crash points.
.PHONY: chaos
chaos: stores build ## Inject faults while votes come in: VOTES= SEED= FAULTS=a,b DURATION=s OUTAGE=s HISTORY=n CLOSING=n CALM=s REDELIVERY=s
	@exec $(TARGET)/debug/local chaos $(if $(VOTES),--votes $(VOTES)) $(if $(SEED),--seed $(SEED)) \
		$(if $(FAULTS),--faults $(FAULTS)) $(if $(DURATION),--duration $(DURATION)) $(if $(OUTAGE),--outage $(OUTAGE)) \
		$(if $(HISTORY),--history $(HISTORY)) $(if $(CLOSING),--closing $(CLOSING)) $(if $(CALM),--calm $(CALM)) \
		$(if $(REDELIVERY),--redelivery $(REDELIVERY)) $(ARGS)

.PHONY: check
check: tools ## Formatting, lints, documentation, template, unused dependencies, sam build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	cfn-lint template.yaml
	AWS_DEFAULT_REGION=us-east-1 sam validate --lint
	checkov
	python scripts/check_template.py
	python scripts/check_deployment.py
	python scripts/cost.py --check
	python -m unittest discover --start-directory scripts
	@command -v cargo-machete >/dev/null || \
		cargo install --quiet --locked --version $(MACHETE) --root .venv --target-dir $(TARGET)/machete cargo-machete
	cargo machete
	@$(MAKE) --no-print-directory artifacts
	scripts/check_artifacts.sh $(ARTIFACTS)/*/bootstrap
	python scripts/check_functions.py $(ARTIFACTS)

.PHONY: loadtest
loadtest: tools stores ## Put load on a stack: SCENARIO=vote|polls|show|final|stampede VOTERS= VOTES= USERS= VIEWERS= SCALE= BASE_URL= TOKENS=
	scripts/loadtest.sh

.PHONY: redrive
redrive: ## Send the votes in the dead-letter queue back: BASE_URL= ADMIN_TOKEN=
	@scripts/setup.sh http
	@scripts/redrive.sh

# The figures of a quick run are inaccurate: they stay out of docs/.
BENCH_OUT = $(if $(QUICK),$(TARGET)/bench,docs/bench)

.PHONY: bench
bench: tools stores artifacts ## Measure this machine, 25 minutes: ONLY=capacity,floor,first,growth,retries,growth50,surge,front,start REPETITIONS= QUICK=1
	cargo build --workspace --locked --bin local --example first_design $(OPTIMIZED)
	$(TARGET)/debug/local bench --artifacts $(TARGET)/sam --first-design $(TARGET)/debug/examples/first_design \
		--out $(BENCH_OUT) $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) \
		$(if $(REPETITIONS),--repetitions $(REPETITIONS))

# The environments of samconfig.toml: development, production.
preflight deploy destroy logs pages crew token: export ENV := $(or $(ENV),development)

.PHONY: preflight
preflight: tools ## Report the gaps of a deployment within seconds; ENV=
	@python scripts/preflight.py --environment $(ENV)

# In this order: nothing is compiled for a deployment that cannot succeed.
.PHONY: deploy
deploy: preflight ## Build and deploy to AWS, the pages too; ENV=development|production
	@$(MAKE) --no-print-directory build
	scripts/deploy.sh

.PHONY: destroy
destroy: tools ## Delete a deployment, unless votes would be lost; ENV=
	python scripts/deployment.py destroy --environment $(ENV)

.PHONY: smoke
smoke: ## Cast a vote and wait until it is counted; BASE_URL= ADMIN_TOKEN=
	@scripts/setup.sh http
	scripts/smoke.sh

.PHONY: logs
logs: tools ## Follow the functions' logs; ENV=
	sam logs --config-env $(ENV) --tail

.PHONY: crew
crew: tools ## Grant a person the crew's routes; ENV= EMAIL=
	@python scripts/deployment.py crew --environment $(ENV) --email "$(EMAIL)"

.PHONY: token
token: tools ## Print a token of a user of the user pool; ENV= EMAIL=
	@python scripts/deployment.py token --environment $(ENV) --email "$(EMAIL)"

.PHONY: pages
pages: tools ## Publish the pages alone; ENV=
	@python scripts/preflight.py --environment $(ENV) --credentials
	@$(MAKE) --no-print-directory build
	scripts/publish.sh

.PHONY: screens
screens: stores browser build ## Renew the pictures in docs/screens
	scripts/screens.sh

# Prerequisites of the targets above.

# `local` bundles the pages.
.PHONY: build
build: bundler
	cargo build --workspace --locked

# Programs and tests in one build: otherwise the features of the tests would compile half the tree again.
.PHONY: tests
tests: bundler
	cargo build --workspace --all-targets --locked

# Lambda's artifacts, for this machine's architecture: built as for a deployment, but by cargo alone. A deployment uses
# Zig, for another architecture or an older libc, which would compile everything once more.
.PHONY: artifacts
artifacts: export CARGO_LAMBDA_COMPILER := cargo
artifacts: tools
	sam build --build-dir $(ARTIFACTS) --parameter-overrides Architecture=$(ARCHITECTURE)

.PHONY: stores
stores:
	@scripts/setup.sh stores http

.PHONY: bundler
bundler:
	@scripts/setup.sh bundler

.PHONY: distribution
distribution:
	@scripts/setup.sh distribution

.PHONY: browser
browser:
	@scripts/setup.sh browser

.PHONY: tools
tools:
	@scripts/setup.sh python http
	@scripts/venv.sh
