# Two targets matter: `make test` does everything on a fresh machine, `make bench` compares with the peers.

CARGO ?= cargo
# Built like a release, linked quickly, with assertions on.
PROFILE ?= quick

.PHONY: test check packages deny advisories miri bench simulate kills conformance fuzz clean

test: packages
	$(CARGO) build --workspace --bins --profile $(PROFILE) --locked
	$(CARGO) test --workspace --profile $(PROFILE) --locked
	$(CARGO) test -p voxhall-shards --profile $(PROFILE) --locked --features planted-bug --test simulation planted

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

# What the tests need beside Rust, make and a C compiler.
packages:
	tests/packages

# Licences, sources and versions of all dependencies. Installing the tool takes two or three minutes, once.
DENY = target/tools/bin/cargo-deny
$(DENY):
	$(CARGO) install --locked --version 0.20.2 --root target/tools cargo-deny

deny: $(DENY)
	$(DENY) check --hide-inclusion-graph bans licenses sources

# Known vulnerabilities. Fetches the database of RustSec from GitHub, which not every machine can reach.
advisories: $(DENY)
	$(DENY) check advisories

# Unit tests of memory that is used again and of parsers, under Miri, in some minutes; needs a nightly toolchain.
miri:
	PROPTEST_CASES=2 MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) +nightly miri test -p voxhall-shards --lib --target-dir target/miri -- $(MIRI_TESTS)
MIRI_TESTS = core::frame core::outbox core::spare core::arrivals core::http

# Ten thousand seeds of the simulation; VOXHALL_SIM_SEEDS and VOXHALL_SIM_FIRST choose others.
simulate:
	VOXHALL_SIM_SEEDS=$${VOXHALL_SIM_SEEDS:-10000} $(CARGO) test -p voxhall-shards --profile $(PROFILE) --locked --test simulation --test channels -- --nocapture

# A server with a file store, killed VOXHALL_KILLS times (1,000) at any moment, and what each kill lost; `make test` does it 20
# times.
kills:
	$(CARGO) build --bins --profile $(PROFILE) --locked
	VOXHALL_KILLS=$${VOXHALL_KILLS:-1000} $(CARGO) test --profile $(PROFILE) --locked --test store kills -- --nocapture

# The whole Autobahn suite, its long sections included; `make test` runs the quick ones.
conformance:
	VOXHALL_AUTOBAHN=all $(CARGO) test --profile $(PROFILE) --locked --test autobahn -- --nocapture

# Fuzzing guided by coverage, VOXHALL_FUZZ_S seconds (600) for each target, or for TARGET alone; it needs a C++ compiler.
# `make test` has a short run of every target.
fuzz:
	fuzz/run $(TARGET)

bench:
	$(CARGO) build --workspace --bins --release --locked
	target/release/voxhall-compare --preset rate40k
	target/release/voxhall-compare --preset rate60k
	target/release/voxhall-compare --preset pressure

clean:
	$(CARGO) clean
