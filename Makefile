# SPDX-License-Identifier: GPL-2.0-only
# Each target is one script, which says in its head what it does; `make help` lists them.

.DEFAULT_GOAL := all
SHELL := /bin/bash
export PREFIX ?= /usr/local
export DESTDIR ?=
export KDIR ?=

.PHONY: all
all: userspace module ## build the programs and the kernel module

.PHONY: userspace
userspace: ## build the programs with the host's cargo, into target/release
	cargo build --release --locked

.PHONY: module
module: ## build target/kmod/srb.ko for Debian's stock kernel (root)
	scripts/module.sh

.PHONY: check
check: ## formats, lints, licences, spelling
	scripts/check.sh

.PHONY: test
test: ## all tests: on the host, under loom, in a VM with a stock kernel (root; KERNEL=forky)
	scripts/test.sh

.PHONY: vm-test
vm-test: ## the tests in the VM only; TESTS=FILTER selects among them
	scripts/vm-tests.sh $(TESTS)

.PHONY: boots
boots: ## the packages on a whole machine, in VMs: boot, services, power-off (root; TESTS=, ROUNDS=)
	scripts/boots.sh $(TESTS) $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: test-debug
test-debug: ## the tests in a VM whose kernel looks for bugs (KERNEL=debug or kcsan, TESTS=FILTER)
	KERNEL=$(or $(KERNEL),debug) scripts/test-debug.sh $(TESTS)

.PHONY: test-faults
test-faults: ## fault campaigns in full, in VMs (FAULTS=CAMPAIGN, SEED=, ROUNDS=)
	scripts/vm.sh faults $(FAULTS) $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS))

.PHONY: fuzz
fuzz: ## each fuzz target for ten minutes (SECS=, TARGET=)
	scripts/fuzz.sh $(or $(SECS),600) $(TARGET)

.PHONY: coverage
coverage: ## which lines and branches the host's tests run; writes target/results (root)
	scripts/coverage.sh

.PHONY: mutants
mutants: ## small changes to ring, parsers and retry logic that no test notices (FILES=GLOB)
	scripts/mutants.sh $(FILES)

.PHONY: sim
sim: ## the agent in simulated time, each seed with its own faults and deaths (SEEDS=, FIRST=)
	SRB_SIM_SEEDS=$(or $(SEEDS),1000) SRB_SIM_FIRST=$(or $(FIRST),0) \
		cargo test --release -p srb-agent --lib no_seed_breaks_the_order -- --nocapture

.PHONY: bench
bench: ## measure srb and its peers in a VM; writes docs/benchmarks (root)
	scripts/bench.sh

.PHONY: bench-quick
bench-quick: ## srb's own rates beside the recorded ones
	scripts/bench.sh quick

.PHONY: bench-native
bench-native: ## what needs no kernel, at this machine's own speed
	scripts/bench.sh native

.PHONY: vm-shell
vm-shell: ## a root shell in the VM, the module and the programs at hand
	scripts/vm.sh shell

.PHONY: demo
demo: ## srb at work, in a VM
	scripts/vm.sh run --disk 8G --memory 3G --timeout 600 -- bash /srb/demo.sh

.PHONY: deb
deb: ## Debian packages of module (DKMS), programs and playground, into target/deb (root)
	scripts/deb.sh

.PHONY: dist
dist: ## the sources with all that a build without a network takes, target/srb-VERSION.tar.gz (root)
	scripts/dist.sh

.PHONY: rpm
rpm: ## RPM packages by packaging/srb.spec, into target/rpm (root)
	scripts/rpm.sh

.PHONY: install
install: install-module install-programs ## install module and programs (KDIR=, PREFIX=, DESTDIR=)

.PHONY: install-module
install-module: ## the module, into /lib/modules/RELEASE/extra
	scripts/install.sh module

.PHONY: install-programs
install-programs: ## the programs that `make userspace` built
	scripts/install.sh programs

.PHONY: install-dkms
install-dkms: ## the module's sources, into /usr/src for DKMS
	scripts/install.sh dkms

.PHONY: uninstall
uninstall: ## remove what install put there
	scripts/install.sh uninstall

.PHONY: clean
clean: ## remove what builds made of this checkout
	scripts/clean.sh

.PHONY: distclean
distclean: ## also remove the cache (Debian trees, kernel, VM image)
	scripts/clean.sh all

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18
