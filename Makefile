# What people do with a checkout of castoff; `make help` lists it. The scripts behind are in contrib/make.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build demo test lint fuzz bench soak deb install clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build castoff into target/release, with a Rust toolchain from PATH or from Debian
	@contrib/make/build.sh

demo: ## build, then make, pack, verify and load an image of a real Debian root filesystem with ACLs
	@contrib/make/demo.sh

test: ## lint, then every test, with a Docker Engine and other real parts of its own (root)
	@contrib/make/lint.sh
	@contrib/make/test.sh

lint: ## formatting, clippy, shellcheck
	@contrib/make/lint.sh

fuzz: ## the fuzz targets for a fixed number of executions
	@contrib/make/fuzz.sh

bench: ## measure castoff against what people use today, in one run (root)
	@contrib/make/bench.sh

soak: ## long fuzzing and kill storms (SOAK_MINUTES=30)
	@contrib/make/soak.sh

deb: ## a Debian package in target/debian
	@contrib/make/deb.sh

install: $(if $(CASTOFF_BIN),,build) ## the binary into $(PREFIX)/bin (/usr/local); CASTOFF_BIN names a built one
	install -D -m 0755 "$${CASTOFF_BIN:-$${CARGO_TARGET_DIR:-target}/release/castoff}" "$(DESTDIR)$${PREFIX:-/usr/local}/bin/castoff"

clean: ## remove what the build and the demo made
	rm -rf "$${CARGO_TARGET_DIR:-target}" .demo
