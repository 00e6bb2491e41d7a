# Hull: `make` says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
SWIFT ?= swift
# What the tests and the benchmark run, and the images made for them.
export HULL_BIN ?= $(CURDIR)/bin/hull
export HULL_IMAGES ?= $(CURDIR)/.build/images
RELEASE := .build/release
SOURCES := Package.swift Sources Tests guest/Package.swift guest/Sources

.PHONY: help setup build guest demo test test-unit test-vm test-engines test-storm test-workloads test-conformance test-kvm test-host test-xen kernel test-kernel images bench lint format install clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## installs Debian's packages that building, testing and running need (as root)
	@scripts/setup.sh

build: ## leaves bin/hull and what it needs beside it
	@scripts/check-swift.sh
	$(SWIFT) build -c release --static-swift-stdlib --product hull
	$(SWIFT) build -c release --static-swift-stdlib --product hull-runtime
	$(SWIFT) build -c release --static-swift-stdlib --product hull-unpack
	mkdir -p bin
	install -m 755 -s $(RELEASE)/hull bin/hull
	install -m 755 -s $(RELEASE)/hull-runtime bin/hull-runtime
	install -m 755 -s $(RELEASE)/hull-unpack bin/hull-unpack
	install -m 755 "$$(guest/build.sh)" bin/hull-init
	install -m 755 "$$(guest/build.sh hull-stub-init)" bin/hull-stub-init
	clang -O2 -Wall -Wextra -Werror -shared -fPIC -s -o bin/hull-awake.so awake/hull-awake.c
	install -m 644 kernel/hull.config bin/hull.config
	install -m 644 -D -t bin/hull.patches kernel/patches/*.patch

guest: ## builds the programs of the guests alone
	@scripts/check-swift.sh
	mkdir -p bin
	install -m 755 "$$(guest/build.sh)" bin/hull-init
	install -m 755 "$$(guest/build.sh hull-stub-init)" bin/hull-stub-init

demo: ## set-up, build, a small image, and a run that shows the isolation
	@scripts/demo.sh

images:
	@scripts/make-image.sh busybox
	scripts/make-image.sh debian
	scripts/make-image.sh engines
	scripts/make-image.sh postgres
	scripts/fetch-qemu-7.2.sh
	scripts/make-xen-lab.sh

test: setup build images ## all tests, on a machine that has only what the set-up installed
	@HULL_STORM_SEED=$${HULL_STORM_SEED:-20261121} scripts/test.sh

test-unit: ## the tests that start no machine
	@scripts/check-swift.sh
	scripts/test.sh --skip 'IntegrationTests|StormTests|EngineTests.Checklist/'

test-vm: build images ## the tests that run containers in real machines
	scripts/test.sh --filter 'IntegrationTests|StormTests|EngineTests'

test-engines: build images ## the whole checklist of real Docker, Podman and containerd, beside runc
	@HULL_ENGINES=all scripts/test.sh --filter EngineTests

test-storm: build images ## 500 seeded kills at random moments instead of 50
	@HULL_STORM=$${HULL_STORM:-500} scripts/test.sh --filter Storm

test-workloads: build images ## PostgreSQL, nginx, ten of a compose file, systemd, dockerd in a container
	@scripts/make-image.sh systemd
	scripts/make-image.sh docker
	scripts/make-image.sh nginx
	HULL_WORKLOADS=1 scripts/test.sh --filter 'IntegrationTests.Workloads|EngineWorkloads'

test-conformance: build images ## what every driver must do, here with QEMU; make test-xen asks it of domains
	@scripts/conformance.py

test-kvm: build images ## Hull with --accel kvm, inside a machine whose SVM is emulated
	@scripts/test-kvm.py

test-host: build images ## Hull on a Debian 12 host as users have one: systemd, cgroup v2, AppArmor, rootless Podman
	@scripts/test-host.py

test-xen: build images ## Hull in a Dom0 of Xen, under QEMU's software emulation
	@scripts/test-xen.py

kernel: build ## a kernel of our own making, below .build/kernel; some 15 minutes of a processor
	@apt-get -qq install -y --no-install-recommends linux-source-6.1 flex bison bc libelf-dev kmod perl xz-utils patch >/dev/null
	export HULL_ROOT=$(CURDIR)/.build/kernel HULL_EXEC_ROOT=$(CURDIR)/.build/kernel/run
	name=$$(bin/hull kernel ls -q | grep -v '^host$$' | head -1 || true)
	[ -n "$$name" ] || name=$$(bin/hull kernel build)
	bin/hull kernel use $$name

test-kernel: kernel images ## the tests that run containers in real machines, with a kernel of our own making
	@HULL_TEST_KERNELS=$(CURDIR)/.build/kernel/kernels scripts/test.sh --filter 'IntegrationTests|KernelBuildTests'

bench: build images ## speed and memory beside their floors
	@bench/bench.py

lint: ## the sources' form, strictly
	@$(SWIFT) format lint --strict --parallel --recursive $(wildcard $(SOURCES))
	if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh .ci/run; fi

format: ## puts the sources into that form
	@$(SWIFT) format --in-place --parallel --recursive $(wildcard $(SOURCES))

install: ## installs what `make build` left, under DESTDIR and PREFIX
	@test -x bin/hull || { echo "bin/hull is missing: run make build first" >&2; exit 1; }
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/hull
	install -m 755 bin/hull $(DESTDIR)$(PREFIX)/bin/hull
	install -m 755 bin/hull-runtime $(DESTDIR)$(PREFIX)/bin/hull-runtime
	install -m 755 bin/hull-unpack bin/hull-init bin/hull-stub-init $(DESTDIR)$(PREFIX)/libexec/hull/
	install -m 644 bin/hull-awake.so $(DESTDIR)$(PREFIX)/libexec/hull/
	install -m 644 bin/hull.config $(DESTDIR)$(PREFIX)/libexec/hull/
	install -m 644 -D -t $(DESTDIR)$(PREFIX)/libexec/hull/hull.patches bin/hull.patches/*.patch
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	bin/hull --generate-completion-script bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/hull
	bin/hull --generate-completion-script zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_hull
	bin/hull --generate-completion-script fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/hull.fish

clean: ## removes what was built
	rm -rf bin .build guest/.build
