# What a person types. Every target sets up what it needs first; see scripts/setup.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# One warm target folder for all clones of this user; set CARGO_TARGET_DIR to use another.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/barograph/target
export PATH := $(HOME)/.cargo/bin:$(PATH)

CARGO := cargo --locked
TOOLS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/barograph/tools
PIPELINE ?= pipelines/local.yaml
DATA ?= ./data
# Machine-readable API descriptions and corpora that are not part of the project.
export BAROGRAPH_CONTRACT ?= $(abspath ../shared/contract)

.PHONY: help run build test bench lint fmt doc deny audit contract interop clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Builds what local collection needs and runs pipelines/local.yaml (PIPELINE=, DATA=, FOR=60s)
	scripts/setup build
	$(CARGO) run --quiet --bin barograph -- run $(PIPELINE) --data $(DATA) $(if $(FOR),--for $(FOR))

build: ## Builds the binary
	scripts/setup build
	$(CARGO) build

test: ## Runs every test, with real daemons where a test needs one (COVERAGE=1: and says what part of src/ ran)
	scripts/setup build rigs $(if $(COVERAGE),coverage)
	scripts/$(if $(COVERAGE),coverage,test)

bench: ## Runs the benchmarks with optimisation (BENCH=name for one: cloudwatch, delivery, ingest, line_protocol, log, merge, poll, scale)
	scripts/setup build rigs bench
	SCALE_PYTHON="$${SCALE_PYTHON:-$(TOOLS)/bin/python3}" $(CARGO) bench $(if $(BENCH),--bench $(BENCH),--benches)

lint: ## Formatting, clippy and rustdoc, warnings denied
	scripts/setup build
	cargo fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features --all-targets -- -D warnings
	$(MAKE) --no-print-directory doc

fmt: ## Formats the code
	cargo fmt

doc: ## Builds the documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items --lib --examples

deny: ## Licences, bans, duplicates and sources of dependencies
	scripts/setup audit
	scripts/audit deny

audit: ## Advisories, from the live database or from the copy under BAROGRAPH_CONTRACT
	scripts/setup audit
	scripts/audit advisories

contract: ## Tests that need the data under BAROGRAPH_CONTRACT
	scripts/setup build
	test -d "$(BAROGRAPH_CONTRACT)" || { echo "no contract data at $(BAROGRAPH_CONTRACT): set BAROGRAPH_CONTRACT" >&2; exit 1; }
	$(CARGO) test --test contract_line_protocol

interop: ## Tests of the AWS source against servers by others, which it installs
	scripts/setup build interop
	$(CARGO) test --test interop

clean: ## Removes what was built
	cargo clean
