# The front door. `make help` says what there is; each target installs what it misses (scripts/setup).

SHELL := /bin/bash
.DEFAULT_GOAL := help
# A toolchain that rustup has just installed is not on the PATH of a shell opened before.
CARGO_HOME_DIR := $(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)
export PATH := $(PATH):$(CARGO_HOME_DIR)/bin

# A source of your own for the demo: make demo CLIP=film.mkv. DEMO_EXIT=1 ends it by itself.
CLIP ?=
# What the second test run hides from the program: Fedora's own libav has neither.
MASKED := libx264,libx265

.PHONY: help setup demo test check-api check-clients soak-clients bench soak lint docs clean

help: ## say what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing to build, test and demonstrate (Debian, Ubuntu, Fedora)
	@scripts/setup

demo: setup ## a node that transcodes a clip and streams it, until ctrl-C; CLIP=film.mkv, DEMO_EXIT=1, DEMO_LISTEN=0.0.0.0
	cargo build --release --locked
	@scripts/demo "$(CLIP)"

test: setup ## run every test, then those that encode again as if libx264 and libx265 were not there
	cargo test --locked
	SPROCKET_MASK_ENCODERS=$(MASKED) cargo test --locked --test 'cli_*' --test cancel --test inspect --test resume --test serve_jobs --test windows

check-api: setup ## ask a node everything that its OpenAPI document allows, and more (schemathesis, by pip)
	cargo build --locked
	scripts/check-api

check-clients: ## play streams of a node with real clients: Chromium with four players, FFmpeg, GStreamer
	@scripts/setup clients
	cargo build --locked
	scripts/check-clients

soak-clients: ## the same with 20 seeks, Firefox, mpv and VLC, and with planted faults that have to be noticed
	@scripts/setup soak-clients
	cargo build --locked
	scripts/check-clients --soak

bench: setup ## measure against the ffmpeg command and nginx on the same machine and print the ratios
	cargo bench --locked --bench engine --bench seek --bench copy
	cargo build --release --locked
	scripts/bench-static

soak: setup ## the long runs: 200 cancels, joins on a film (SPROCKET_TEST_FILM), two hours of video, 50 kills of the node, a cache of 1 GiB
	SPROCKET_CANCEL_CYCLES=200 SPROCKET_SOAK=1 cargo test --release --locked --test cancel --test windows --test soak_drift -- --nocapture --test-threads=1
	SPROCKET_SOAK=1 SPROCKET_KILL_ROUNDS=50 SPROCKET_AWAY_S=120 cargo test --release --locked --test serve_cache --test serve_kill --test serve_load --test serve_orchestrator -- --nocapture --test-threads=1

lint: setup ## formatting and clippy, warnings as errors
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings

docs: setup ## the documentation of the code, into target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --locked

clean: ## remove everything built, the roots of scripts/test-on-distros under target/ included
	cargo clean
