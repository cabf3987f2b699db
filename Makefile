# The only entry point: `make` lists what there is. Whatever needs more than a few lines is a program in tests/tools.

SHELL := /usr/bin/env bash
CARGO := cargo

.DEFAULT_GOAL := help
.PHONY: help build wasm tools demo test test-cluster test-cluster-full test-flux lint fmt bench bench-cluster generate verify clean \
	cluster cluster-down cluster-env cluster-image

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: wasm ## Build the filter's module and the binaries (target/debug)
	$(CARGO) build --locked --workspace --bins

wasm: ## Build the filter's module, installing its toolchain where it is missing
	filter/build

tools: ## Install what is missing: Envoy into .tools, the module's toolchain
	@tests/tools/envoy
	filter/build

demo: ## Watch a real Envoy promote a good revision and take back a bad one (a minute; ARGS="--port 8080")
	@tests/tools/demo $(ARGS)

test: ## Run every level of tests that this machine can host
	@tests/tools/levels

test-cluster: ## Run the tests of a real Kubernetes with Istio alone (KUBECONFIG, or root on Linux with Go; ARGS="PART OF A NAME")
	@tests/tools/kubernetes $(ARGS)

test-cluster-full: ## Run the long rows of these: every event in every phase of a rollout, Flux, Prometheus 3, an earlier Istio (not part of `test`)
	@FULL=1 tests/tools/kubernetes $(ARGS)
	@tests/tools/flux $(ARGS)
	@tests/tools/boards
	@WEIR_CLUSTER_KIND=previous tests/tools/kubernetes mesh:: fronts:: routes::

test-flux: ## Run gitops/ and the tutorial by Flux's real controllers (root on Linux, Go; the first time builds them)
	@tests/tools/flux $(ARGS)

lint: ## Check format, clippy for both targets, licences, shell scripts
	@tests/tools/lint

fmt: ## Format the sources
	$(CARGO) fmt --all

bench: ## Measure the cost of the filter and the harm of a bad canary, into docs/benchmarks.md (ARGS=rollback: one part)
	@tests/tools/bench $(ARGS)

bench-cluster: ## Measure a real Kubernetes with Istio, into docs/benchmarks.md (as test-cluster; ARGS="harm --rounds 3": one part)
	@tests/tools/bench cluster $(ARGS)

generate: ## Rewrite the generated files: goldens, transcripts, tables
	UPDATE_GOLDEN=1 $(CARGO) test --locked --workspace

verify: generate ## Fail if a generated file is not what the sources make of it
	@git diff --exit-code || { echo "generated files differ: run 'make generate' and commit the result"; exit 1; }

cluster: ## Start a real Kubernetes with Istio in namespaces of this machine (root; the first time builds it, 12 minutes)
	@tests/cluster/cluster up

cluster-down: ## End the cluster and whatever is in it
	@tests/cluster/cluster down

cluster-env: ## Print what a command inside the cluster is given; tests/cluster/in COMMAND runs one
	@tests/cluster/cluster environment

cluster-image: ## Pack programs into an image of the cluster: make cluster-image IMAGE="NAME:TAG ENTRYPOINT SRC=DST..."
	@tests/cluster/cluster image $(IMAGE)

clean: ## Remove what was built (.tools stays)
	$(CARGO) clean
