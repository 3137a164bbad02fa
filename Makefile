# make demo   rehearses the example on a throwaway node in this machine
# make test   all checks and tests
# make help   the rest

SHELL := /bin/sh
# Empty outside of a git checkout: the programs then say what they know themselves.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
PKG ?= ./...
ARGS ?=
FUZZTIME ?= 30s
BENCH ?=
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: help build install demo example test lint fmt fuzz bench setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

build: ## bin/conc and bin/bundlefs
	go build -trimpath -buildvcs=false -ldflags '-X bundlefs/internal/version.version=$(VERSION)' -o bin/ ./cmd/...

# mount(8) looks for its helpers in /sbin only.
install: build ## conc, bundlefs and the manual to PREFIX (/usr/local), the helper of mount(8) to /sbin; DESTDIR=DIR for packaging
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)/sbin
	install -m 0755 bin/conc bin/bundlefs $(DESTDIR)$(PREFIX)/bin/
	install -m 0644 docs/man/bundlefs.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 0644 docs/man/mount.bundlefs.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	ln -sf $(PREFIX)/bin/bundlefs $(DESTDIR)/sbin/mount.bundlefs

setup: ## install what the demo and the tests need beside Go, git and make (apt-get, as root or with sudo)
	@scripts/setup.sh $(SETUP)

example: setup ## examples/hello: its sdist and its wheel, built from source without a network
	@$(MAKE) --no-print-directory -C examples/hello artifacts

demo: SETUP = demo
demo: setup build example ## rehearse examples/hello on a throwaway node: venv, pip, and the product's command
	@bin/conc rehearse --file examples/hello/deploy.ini node1

test: setup lint example ## all checks and tests; PKG=./fs/... for some, ARGS='-run Name' for more arguments of go test
	@scripts/gotest.py -race -timeout 20m $(ARGS) $(PKG)
	@$(MAKE) --no-print-directory -C examples/hello test

lint: ## gofmt, go vet, staticcheck, import directions, style
	@scripts/lint.sh

fmt: ## format the Go files
	gofmt -w bench cmd fs bundle ops internal

fuzz: ## each fuzz target for FUZZTIME (30s)
	@scripts/fuzz.sh $(FUZZTIME)

bench: ## measurements side by side with other tools; BENCH='-short' for a quick form, docs/benchmarks.md tells of more
	@scripts/setup.sh bench
	@go test -c -o bin/bench ./bench
	@bin/bench -test.run '^TestBench$$' -test.timeout 0 -full $(BENCH)

clean: ## remove what was built
	rm -rf bin
	@$(MAKE) --no-print-directory -C examples/hello clean
	@$(MAKE) --no-print-directory -C examples/classic clean
