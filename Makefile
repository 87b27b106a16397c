# What can be done here. `make` lists it; `make check` is what CI runs.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: deploy-lint deploy-test help demo executor pool handlers test check lint docs deny soak bench-peers binaries examples tools

# Whole-system tests run what users run: the release binaries.
export TASKQ_BIN_DIR := $(CURDIR)/target/release

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: binaries ## build, run a real job through coordinator, store and worker, print its output
	@scripts/demo

executor: binaries examples ## ten calls through two workers, as with Python's executors
	@scripts/example executor

pool: binaries examples ## the same with the shape of multiprocessing.Pool
	@scripts/example pool

handlers: binaries examples ## functions on threads, an event loop and in child processes
	@scripts/example handlers

test: tools binaries examples ## build and run every test (as root: power cuts and full disks as well)
	cargo test --workspace --locked --no-fail-fast

check: ## everything that CI checks, in CI's own words
	.ci/run

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

docs: ## build the API documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

deny: ## licences, banned crates and sources; advisories where their database is at hand
	@scripts/deny

.PHONY: deb deb-test
deb: ## a Debian package with all programs, units, manual pages: target/debian (`make deb PROFILE=dist` to ship it)
	cargo build --profile $(or $(PROFILE),release) --workspace --bins --locked
	@scripts/deb $(PROFILE)

deb-test: binaries ## install that package in a fresh Debian, boot it, run jobs through its services, remove it (root)
	@scripts/deb
	@deploy/debian/test/run

soak: binaries examples ## the size tests at full scale: 1,000,000 tasks drained, 3,000,000 jobs through retention
	TASKQ_SOAK=full cargo test -p taskq-tests --locked --test size -- --nocapture

bench-peers: binaries ## taskq against xargs, Celery, PostgreSQL and others, in one run: docs/benchmarks/peers.md
	@scripts/bench-peers

deploy-lint: ## check deploy/: the Dockerfile, and compose.yaml against the Compose specification
	@deploy/test/lint

deploy-test: binaries ## build the image and run deploy/compose.yaml with it: scale, kill, move, drain (as root, with podman)
	@deploy/test/run

binaries:
	cargo build --release --workspace --bins --locked

examples:
	cargo build --release --workspace --examples --locked

tools:
	@scripts/tools
	@scripts/promtool
