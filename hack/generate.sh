#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Generates the deep copies of the API types and the CRDs. Usage: hack/generate.sh [--check]
# With --check nothing is changed: it fails if something would be.
set -euo pipefail
cd "$(dirname "$0")/.."

deepcopy=pkg/api/v1alpha1
crds=manifests/crd
generator=$(hack/tool.sh controller-gen)

generate() { # DEEPCOPY-DIR CRD-DIR
	"$generator" \
		object:headerFile=hack/boilerplate.go.txt \
		crd \
		paths=./$deepcopy \
		"output:object:dir=$1" \
		"output:crd:dir=$2"
}

if [[ ${1:-} != --check ]]; then
	generate "$deepcopy" "$crds"
	exit
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir "$out/object" "$out/crd"
generate "$out/object" "$out/crd"
diff -u "$deepcopy/zz_generated.deepcopy.go" "$out/object/zz_generated.deepcopy.go"
for f in "$out"/crd/*.yaml; do
	diff -u "$crds/$(basename "$f")" "$f"
done
