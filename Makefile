SHELL := bash
.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)
FUNCTIONS := $(notdir $(wildcard functions/*))
MACHETE := 0.9.2
# What stands in for AWS must not be what is measured.
OPTIMIZED := --config profile.dev.opt-level=3

# cargo lambda, sam and k6 come from here.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export SAM_CLI_TELEMETRY := 0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: stores build ## Start everything on this machine; ARGS="--port 9000 --aws-port 9001 --ephemeral"
	@exec $(TARGET)/debug/local run $(ARGS)

# Tests have stores of their own, whatever else there is.
test loadtest bench: export DATABASE_URL :=
test loadtest bench: export REDIS_URL :=

.PHONY: test
test: stores tools build artifacts ## All tests: the code, then the running stack
	$(TARGET)/debug/local stores -- cargo test --workspace --locked
	scripts/test_stack.sh

.PHONY: check
check: tools ## Formatting, lints, documentation, template, unused dependencies, release build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	cfn-lint template.yaml
	AWS_DEFAULT_REGION=us-east-1 sam validate --lint
	python scripts/check_template.py
	@command -v cargo-machete >/dev/null || \
		cargo install --quiet --locked --version $(MACHETE) --root .venv --target-dir $(TARGET)/machete cargo-machete
	cargo machete
	@$(MAKE) --no-print-directory artifacts

.PHONY: loadtest
loadtest: stores tools ## Load a stack: SCENARIO=vote|polls|show VOTERS= VOTES= USERS= BASE_URL= TOKENS=
	scripts/loadtest.sh

# A quick run's figures say little: they stay out of the docs.
BENCH_OUT = $(if $(QUICK),$(TARGET)/bench,docs/bench)

.PHONY: bench
bench: stores tools artifacts ## Measure this machine, 25 minutes: ONLY=capacity,floor,first,growth,growth50,surge,front,start QUICK=1
	cargo build --locked -p local --bin local --example first_design $(OPTIMIZED)
	$(TARGET)/debug/local bench --artifacts $(TARGET)/lambda --first-design $(TARGET)/debug/examples/first_design \
		--out $(BENCH_OUT) $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

.PHONY: deploy
deploy: tools ## Build and deploy to AWS; asks for the parameters the first time
	sam build
	sam deploy $(if $(shell grep -s parameter_overrides samconfig.toml),,--guided)

# The rest is what the targets above stand on.

.PHONY: build
build:
	cargo build --workspace --locked

# What Lambda gets, for this machine's architecture.
.PHONY: artifacts
artifacts: tools
	cargo lambda build --release --locked --compiler cargo $(FUNCTIONS:%=--bin %)

.PHONY: stores
stores:
	@scripts/setup.sh stores http

.PHONY: tools
tools:
	@scripts/setup.sh python http
	@scripts/venv.sh
