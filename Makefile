# make alone lists the targets. The network is used by test-deps and bench-deps, and by a tool's or a module's first run.

GO       ?= go
DOCKER   ?= docker
IMAGE    ?= edge
FUZZTIME ?= 30s
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Tools, pinned.
GOLANGCI_LINT := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# What the tests need beside Go, as Debian packages: the roots to fetch modules, a C compiler for race, what builds the
# wasm examples and guests, a Redis for plugins that use one, and what counts instructions. Node and npm may be here from elsewhere.
TEST_PACKAGES := ca-certificates gcc libc6-dev curl spin wabt clang lld rustc cargo libstd-rust-dev-wasm32 redis-server valgrind
TEST_PACKAGES += $(if $(shell command -v node),,nodejs) $(if $(shell command -v npm),,npm)

# The proxies that bench measures beside edge; it leaves out those that are missing. docs/bench.md says how to have Caddy.
BENCH_PACKAGES := nginx haproxy

# The modules of this repository, and the systems that edge must compile for, beside the one it is built on.
MODULES := . bench e2e
SYSTEMS := darwin/arm64 windows/amd64 linux/arm64 linux/arm linux/386

# The packages whose tests rewrite documents with -update; such tests have Docs in their names.
DOCS_PACKAGES = $(shell grep -rlE '^func Test[A-Za-z]*Docs' --include='*_test.go' --exclude-dir=bench --exclude-dir=e2e . \
	| xargs -r -n1 dirname | sort -u)

SHELL         := bash
.DEFAULT_GOAL := help
MAKEFLAGS     += --no-print-directory

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/edge, static and stripped
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/edge ./cmd/edge

.PHONY: run
run: build ## build, then serve the demo provider; needs nothing else
	bin/edge run -demo

.PHONY: test
test: ## run the tests; needs only Go
	$(GO) test -timeout 5m ./...
	cd bench && $(GO) test -timeout 5m ./...

.PHONY: race
race: ## run the tests under the race detector; needs gcc
	@set -- $$($(GO) env CC); command -v "$$1" >/dev/null || \
		{ echo "make race: the race detector needs the C compiler $$1, which is not here; make test-deps installs it" >&2; exit 1; }
	CGO_ENABLED=1 $(GO) test -race -timeout 15m ./...
	CGO_ENABLED=1 $(GO) test -race -tags edgedebug,gatehammer -run Hammer ./arena ./limiter

.PHONY: hammer
hammer: ## 100,000 requests, and 10,000 streams through a plugin, under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./proxy -run Hammer -v -hammer=100000

.PHONY: e2e
e2e: ## run the end-to-end tests (their own module)
	cd e2e && $(GO) test -count=1 -tags gatehammer -timeout 5m -run TestLin .
	cd e2e && $(GO) test -count=1 -timeout 20m ./...

.PHONY: bench
bench: ## measure edge beside its peers (their own module)
	cd bench && $(GO) run .

.PHONY: guard
guard: ## compare what a request allocates and computes with bench/guard/baseline.json; needs valgrind
	cd bench && $(GO) run ./guard

.PHONY: guard-update
guard-update: ## write bench/guard/baseline.json anew
	cd bench && $(GO) run ./guard -update

.PHONY: mutants
mutants: ## show that each listed mutant fails the test that is named for it
	cd e2e && $(GO) test -tags mutants -run Mutants -timeout 20m .

.PHONY: spin
spin: ## check the model of the gate's queue; needs spin and gcc
	limiter/testdata/spin/run.sh

.PHONY: wasm
wasm: ## build the .wasm files of the examples anew
	@GO="$(GO)" wasm-examples/build.sh

.PHONY: wasm-verify
wasm-verify: ## check that the .wasm files of the examples are what their sources give
	@GO="$(GO)" wasm-examples/build.sh verify

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s)
	@list=$$($(GO) test -list '^Fuzz' ./...) || { echo "$$list" >&2; exit 1; }; \
	targets=$$(awk '/^Fuzz/ { names[n++] = $$1 } /^ok/ { while (n > 0) print $$2, names[--n] }' <<<"$$list"); \
	test -n "$$targets" || { echo "make fuzz: found no fuzz target" >&2; exit 1; }; \
	while read -r package name; do \
		echo "== $$package $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$package" </dev/null || exit; \
	done <<<"$$targets"

.PHONY: check
check: ## format, vet, lint, documents, go.mod; leaves the tree as it was
	@state() { git status --porcelain --untracked-files=all 2>/dev/null && git diff 2>/dev/null || true; }; \
	before=$$(state); \
	$(MAKE) check-format check-vet check-systems check-lint check-docs check-modules || exit; \
	test "$$before" = "$$(state)" || { echo "make check: the checks changed the tree; git status says where" >&2; exit 1; }

.PHONY: check-format check-vet check-systems check-lint check-docs check-modules
check-format:
	$(GOLANGCI_LINT) fmt --diff

check-vet:
	@for module in $(MODULES); do (set -x; cd $$module && $(GO) vet ./...) || exit; done
	$(GO) vet -tags edgedebug,gatehammer ./...

check-systems:
	@for system in $(SYSTEMS); do (set -x; env GOOS=$${system%/*} GOARCH=$${system#*/} CGO_ENABLED=0 $(GO) vet ./...) || exit; done

check-lint:
	@for module in $(MODULES); do (set -x; cd $$module && $(GOLANGCI_LINT) run ./...) || exit; done

check-docs:
	@test -n "$(DOCS_PACKAGES)" || { echo "make check: found no test with Docs in its name" >&2; exit 1; }
	$(GO) test -run Docs $(DOCS_PACKAGES)

check-modules:
	@for module in $(MODULES); do (set -x; cd $$module && $(GO) mod tidy -diff) || exit; done

.PHONY: format
format: ## format the tree
	$(GOLANGCI_LINT) fmt

.PHONY: docs
docs: ## write the generated documents anew
	$(GO) test -run Docs $(DOCS_PACKAGES) -update

# $(call install,TARGET,PACKAGES) is the recipe that installs what is missing of them.
define install
@missing=; for package in $(2); do \
	dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
done; \
if test -z "$$missing"; then echo "make $(1): no package is missing"; exit; fi; \
command -v apt-get >/dev/null || { echo "make $(1): no apt-get here; install what corresponds to:$$missing" >&2; exit 1; }; \
sudo=; if test "$$(id -u)" != 0; then sudo=sudo; fi; \
echo "make $(1): installing$$missing"; \
$$sudo apt-get update -q </dev/null && \
$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing </dev/null
endef

.PHONY: test-deps
test-deps: ## install what the tests need and is missing (Debian, root or sudo)
	$(call install,test-deps,$(TEST_PACKAGES))
	@for example in pick-model token-meter; do \
		(cd wasm-examples/$$example && { npm ls >/dev/null 2>&1 || npm ci --ignore-scripts --no-audit --no-fund; }) || exit; \
	done

.PHONY: bench-deps
bench-deps: ## install the proxies that bench can measure, too (Debian, root or sudo)
	$(call install,bench-deps,$(BENCH_PACKAGES))

.PHONY: image
image: ## build the container image IMAGE (edge)
	@$(DOCKER) version >/dev/null 2>&1 || { echo "make image: $(DOCKER) or the engine behind it is not here" >&2; exit 1; }
	$(DOCKER) build --build-arg VERSION=$(VERSION) -t $(IMAGE) .

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
