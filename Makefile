# SPDX-License-Identifier: GPL-2.0-only
# Each target is one script, which says in its head what it does; `make help` lists them.

.DEFAULT_GOAL := all

.PHONY: all
all: userspace module ## build the programs (host's cargo) and the kernel module (for Debian's stock kernel)

.PHONY: userspace
userspace: ## build the programs into target/release
	cargo build --release --locked

.PHONY: module
module: ## build target/kmod/srb.ko
	scripts/module.sh
