# What a developer calls. A fresh clone needs a Rust toolchain, a C compiler and make; `make test` says what else it missed.

CARGO ?= cargo
# Cargo.lock is what is built, here as for everybody else.
LOCKED := --locked
# The simulator is a feature of the engine, for `serin sim` and its tests.
SIM := --features serin-engine/sim
BIN := $${CARGO_TARGET_DIR:-target}/release/serin

# Programs that end-to-end tests run, each with the Debian package that has it.
TOOLS := nginx:nginx-light curl:curl kubectl:kubernetes-client python3:python3
# Where Debian keeps servers is not in everybody's PATH.
LOOK_IN := PATH="$$PATH:/usr/sbin:/sbin"

# Runs $(2) under the title $(1) and tells how long it took.
define step
@printf '\n==> %s\n' '$(1)'; began=$$(date +%s); \
$(2) || { printf '==> %s: FAILED after %d s\n' '$(1)' $$(( $$(date +%s) - began )); exit 1; }; \
printf '==> %s: %d s\n' '$(1)' $$(( $$(date +%s) - began ))
endef

# Installs what is missing of $(1), a list of program:package, as root on Debian; RUNLEVEL keeps the package of a server from starting it.
define install
@for tool in $(1); do \
  program=$${tool%%:*}; package=$${tool#*:}; \
  if $(LOOK_IN) command -v "$$program" >/dev/null; then continue; fi; \
  if [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then continue; fi; \
  printf '==> installing %s for %s\n' "$$package" "$$program"; \
  install="env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qq -y --no-install-recommends $$package"; \
  $$install >/dev/null 2>&1 || { apt-get update -qq && $$install >/dev/null; } || printf '==> %s could not be installed\n' "$$package"; \
done
endef

# What is distributed holds its own libc, so it runs on every Linux of its kind of machine.
STATIC := $(shell uname -m)-unknown-linux-musl
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
DIST := $(TARGET)/$(STATIC)/dist/serin
DISTRIBUTION := build --profile dist --target $(STATIC) $(LOCKED) --package serin
# What a gateway under load has run of the program, and how often: the compiler makes that fast, and puts it together.
RUNS := $(TARGET)/profile/runs
PROFILE := $(TARGET)/profile/gateway.profdata
PROFDATA := $(shell rustc --print target-libdir)/../bin/llvm-profdata
# With $(1) for the compiler.
WITH = --config 'target.$(STATIC).rustflags=["$(1)"]'
# The load, and its measurements; what the profile is of.
LOAD := small,64k,idle,changes
PROXIES := $(CARGO) bench $(LOCKED) --package serin-gateway --bench proxies --

# For how long each target of `make fuzz` runs, and where it keeps what it built and found.
FUZZ_SECONDS ?= 60
FUZZ_DIR ?= $(CURDIR)/target/fuzz

.DEFAULT_GOAL := help
.NOTPARALLEL:
SIMULATE := $(CARGO) test $(LOCKED) --package serin-engine --features sim --test simulator

.PHONY: help demo build dist static test lint fmt clippy tidy doc deny unit e2e soak sim bench bench-gateway fuzz tools skipped clean

help: ## List what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## Releases under load on one screen: canary, automatic rollback, blue-green
	@$(BIN) demo

build: ## The release build
	$(call step,release build,$(CARGO) build --release $(LOCKED) --package serin)

dist: $(PROFILE) ## The build that is distributed, one static program for every Linux: target/*-musl/dist/serin (an hour, 8 GB)
	$(call step,build for distribution,$(CARGO) $(DISTRIBUTION) $(call WITH,-Cprofile-use=$(PROFILE)))

# It is made anew when what it is of has changed. What the load does not reach is not taken for what is
# never called.
$(PROFILE): $(wildcard $(shell git ls-files Cargo.lock Cargo.toml 'crates/*/Cargo.toml' 'crates/*/src/*' 2>/dev/null)) | static
	@rm -rf $(RUNS)
	$(call step,build that counts what it runs,$(CARGO) $(DISTRIBUTION) $(call WITH,-Cprofile-generate=$(RUNS)))
	$(call step,load on it,$(PROXIES) --only $(LOAD) --rounds 4 --peers serin --program $(DIST))
	$(call step,profile,$(PROFDATA) merge --sparse --output $@ $(RUNS))

# SQLite, ring and the allocator are C, and want the headers of the libc that they are built for.
static: ## Install what a static build needs: the Rust target, the tools of its profile, and musl-gcc
	@[ -d "$$(rustc --print target-libdir --target $(STATIC))" ] || rustup target add $(STATIC)
	@[ -x $(PROFDATA) ] || rustup component add llvm-tools
	$(call install,musl-gcc:musl-tools)
	@command -v musl-gcc >/dev/null || { echo 'a static build needs musl-gcc (Debian: apt-get install musl-tools)'; exit 1; }

# The cheap checks come first. Clippy goes before doc, so that doc finds the dependencies already checked.
test: tools fmt clippy tidy doc deny unit skipped ## Everything that must hold before a commit

lint: fmt clippy tidy deny ## The checks of the test run that run nothing

fmt:
	$(call step,rustfmt,$(CARGO) fmt --all -- --check)

# --all-targets would leave out a bench that only runs when it is asked for.
clippy:
	$(call step,clippy,$(CARGO) clippy --workspace --lib --bins --tests --bench '*' $(SIM) $(LOCKED) -- -D warnings)

tidy:
	$(call step,arrows and tidy,$(CARGO) xtask arrows tidy)

doc:
	$(call step,documentation,RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps $(LOCKED))

deny:
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  $(CARGO) deny $(LOCKED) check licenses bans sources; \
	else \
	  printf '\n==> licences, bans and sources: skipped, cargo-deny is not installed (cargo install --locked cargo-deny)\n'; \
	fi

unit:
	$(call step,tests,$(CARGO) test --workspace $(SIM) $(LOCKED))

e2e: tools ## The tests that drive the real binary
	$(call step,end-to-end tests,$(CARGO) test --package serin $(LOCKED) --test '*')

bench-gateway: dist ## The gateway as it is distributed beside nginx and HAProxy: CPU, latency, memory, lost requests (half an hour more)
	$(call step,the gateway beside nginx and HAProxy,$(PROXIES) --program $(DIST))

# cargo-fuzz reads the names of its targets from the folder; a corpus stays outside of the tree.
fuzz: ## Each fuzz target of the gateway for FUZZ_SECONDS=60 (needs cargo-fuzz and a nightly toolchain)
	@for target in $$($(CARGO) +nightly fuzz list --fuzz-dir crates/gateway/fuzz); do \
	  printf '\n==> fuzzing %s for %d s\n' "$$target" $(FUZZ_SECONDS); \
	  mkdir -p $(FUZZ_DIR)/corpus/$$target; \
	  $(CARGO) +nightly fuzz run $$target --fuzz-dir crates/gateway/fuzz --target-dir $(FUZZ_DIR)/target \
	    $(FUZZ_DIR)/corpus/$$target crates/gateway/fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done

soak: ## A million seeds of the simulator of rollouts
	$(call step,a million seeds,SERIN_SIM_SEEDS=100000 $(SIMULATE))

sim: ## One seed of the simulator in every scenario: make sim SEED=7
	$(call step,seed $(SEED),SERIN_SIM_SEED=$(SEED) $(SIMULATE))

bench: ## The benchmarks
	$(call step,benchmarks,$(CARGO) bench --workspace $(LOCKED))

tools: ## Install what the end-to-end tests run, or say what is missing
	$(call install,$(TOOLS))

# Tests whose program is missing pass without having run, so the end of the run says which those were.
skipped:
	@echo; for tool in $(TOOLS); do \
	  program=$${tool%%:*}; \
	  $(LOOK_IN) command -v "$$program" >/dev/null || \
	    printf 'skipped: the tests with %s, which is not installed (Debian: apt-get install %s)\n' "$$program" "$${tool#*:}"; \
	done
	@$(CARGO) deny --version >/dev/null 2>&1 || echo 'skipped: licences, bans and sources, since cargo-deny is not installed'
	@echo 'everything that ran has passed'

clean: ## Remove what was built
	$(CARGO) clean
