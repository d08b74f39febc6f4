#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests. Usage: hack/test.sh [all|unit|apiserver|e2e]   RUN=regexp selects among those of e2e.
#   unit       needs nothing but Go
#   apiserver  runs a real kube-apiserver and etcd
#   e2e        runs real local clusters
#   all        everything (default)
# What the last three need (Debian packages, Kubernetes, containerd, images of the workloads) is installed or built the
# first time, which takes some 15 minutes on two cores, and kept in ${CRYOPOD_CACHE:-~/.cache/cryopod}.
set -euo pipefail
cd "$(dirname "$0")/.."

# The flags by which the images of Cryopod and the programs of the cluster are built, so that nothing is compiled twice.
export CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false'

what=${1:-all}
began=$SECONDS
say() { printf '\n== %s (%dm%02ds)\n' "$1" $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)); }

command -v go >/dev/null || { echo 'Go is not on the PATH: https://go.dev/doc/install' >&2; exit 1; }

# tagged prints the packages with tests that only a build tag brings.
tagged() { git grep -lE "^//go:build $1\$" -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's#^#./#'; }

prepare() {
	say 'what the tests run on'
	go run ./test/e2e/cluster/toolchain/cmd/toolchain ensure >/dev/null
}

images() {
	say 'images of the workloads'
	go run ./test/e2e/cluster/toolchain/cmd/toolchain images >/dev/null
}

unit() {
	say 'unit tests'
	go test -timeout 15m -p 2 ./...
}

# Each package has API servers of its own.
apiserver() {
	say 'tests against a real API server'
	go test -tags apiserver -timeout 20m -p 2 $(tagged apiserver)
}

# Packages that start a cluster take turns: -p 1. make lint has vetted them.
e2e() {
	say 'tests on a real cluster'
	go test -tags e2e -vet off -count 1 -p 1 -timeout 40m -v -run "${RUN:-.}" $(tagged e2e)
}

# Not joined by &&, within which bash forgets about -e.
case $what in
unit) unit ;;
apiserver) prepare; apiserver ;;
e2e) prepare; images; e2e ;;
all) unit; prepare; apiserver; images; e2e ;;
*) sed -n '4,10p' "$0" >&2; exit 2 ;;
esac
say 'all passed'
