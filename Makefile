# SPDX-License-Identifier: Apache-2.0

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# What users may set on the command line.
CLUSTER   ?= dev
NODES     ?= 2
REGISTRY  ?=
TAG       ?= dev
PLATFORMS ?=
KUBECTL   ?= kubectl
GOFLAGS_TEST ?=
SEED      ?= 0
RUNS      ?= 10

CLUSTER_CMD := go run ./test/e2e/cluster/cmd/local-cluster

##@ Code

.PHONY: build
build: ## Build all programs into bin/
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/ ./cmd/...

.PHONY: test
test: ## Run every test: units, against a real API server, and on a real local cluster (root, Debian)
	@hack/test.sh

.PHONY: test-unit
test-unit: ## Run the tests that need neither root nor a cluster
	@hack/test.sh unit

.PHONY: fuzz
fuzz: ## Run every fuzz target for a minute (FUZZTIME=1m; RUN=regexp of "package Target" selects); their seeds are part of "make test"
	@hack/fuzz.sh $(if $(RUN),'$(RUN)')

.PHONY: model
model: ## Explore the protocol further than "make test" does (DEVIATIONS=2; of the schedules with that many, one in EVERY=20)
	CGO_ENABLED=0 go test -trimpath -count 1 -timeout 5h -v -run 'TestProtocol|TestMutants' ./test/protocol -args \
		-deviations $(or $(DEVIATIONS),2) -every $(or $(EVERY),20)

.PHONY: lint
lint: ## Run golangci-lint, pinned in hack/tools/dev
	@linter=$$(hack/tool.sh golangci-lint); "$$linter" run --build-tags e2e ./...

.PHONY: generate
generate: ## Write the deep copies in pkg/api and the CRDs in manifests/crd
	@hack/generate.sh

.PHONY: verify
verify: ## Check generated code, go.mod files, formatting, licence headers, import rules and stray paths
	@hack/verify.sh

##@ Try it

.PHONY: demo
demo: ## Move a running process by a real "kubectl drain" on a local cluster, and show that no step was lost
	@go run ./test/e2e/cmd/demo

.PHONY: e2e
e2e: ## Run the tests on a real local cluster only (RUN=regexp selects)
	@hack/test.sh e2e

.PHONY: chaos
chaos: ## Attack Cryopod at random on a local cluster of its own (SEED=n repeats, RUNS=10); report in _out/chaos.json
	@go run ./test/e2e/cmd/chaos --seed '$(SEED)' --runs '$(RUNS)'

.PHONY: cluster-up
cluster-up: ## Start the local cluster (CLUSTER=dev NODES=2)
	@$(CLUSTER_CMD) up --name $(CLUSTER) --nodes $(NODES)

.PHONY: cluster-down
cluster-down: ## Stop it and remove everything it left
	@$(CLUSTER_CMD) down --name $(CLUSTER)

.PHONY: cluster-status
cluster-status: ## Show its nodes and how to reach it
	@$(CLUSTER_CMD) status --name $(CLUSTER)

##@ Numbers

.PHONY: bench
bench: bench-plan bench-migrate bench-taint ## Run all benchmarks; results go to _out/bench

.PHONY: bench-plan
bench-plan: ## Value saved of 10,000 simulated nodes that end, against the optimum and simpler ways; time for a plan
	@go run ./test/bench/plan

.PHONY: bench-migrate
bench-migrate: ## Time from eviction to the first step on the new node, against a cold restart
	@go run ./test/e2e/cmd/bench-migrate

.PHONY: bench-taint
bench-taint: ## What of a node's pods is saved within 30 s of notice, against one pod after the other
	@go run ./test/e2e/cmd/bench-taint

.PHONY: bench-prefetch
bench-prefetch: ## What it gains that agents fetch checkpoints while the kubelet pulls base images
	@go run ./test/e2e/cmd/bench-prefetch

.PHONY: bench-outage
bench-outage: ## Replicas of the webhook killed every 2 s, its certificate renewed 100 times, while 100 pods a second are created
	@go run ./test/bench/outage

.PHONY: bench-scale
bench-scale: ## Memory and CPU of each part at rest, with 5,000 nodes and 50,000 pods, and while those change
	@go run ./test/bench/scale

.PHONY: bench-scheduler
bench-scheduler: ## Pods placed in a second at 5,000 and 15,000 nodes, bytes pulled in a day, restores predicted: against kube-scheduler
	@go run ./test/bench/scheduler

.PHONY: bench-webhook
bench-webhook: ## The webhook under load: 1,000 requests a second, what it adds to making a pod, 500 evictions held at once
	@go run ./test/bench/webhook

##@ Install

.PHONY: images
images: ## Build the components' images and push them, without a container daemon (REGISTRY=registry.example/cryopod TAG=dev)
	@go run ./hack/images --registry '$(REGISTRY)' --tag '$(TAG)' $(if $(PLATFORMS),--platforms '$(PLATFORMS)')

.PHONY: install
install: ## Install on the cluster that kubectl points at, with the images of REGISTRY and TAG
	@REGISTRY='$(REGISTRY)' TAG='$(TAG)' KUBECTL='$(KUBECTL)' hack/install.sh

.PHONY: uninstall
uninstall: ## Remove Cryopod and its objects from the cluster that kubectl points at
	@KUBECTL='$(KUBECTL)' hack/uninstall.sh

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@ / {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
