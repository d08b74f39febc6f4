#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target for a while, one after the other. Usage: hack/fuzz.sh [regexp of "package Target"]
#   FUZZTIME=1m   how long each one runs
#   PARALLEL=2    on how many cores
#   KEEP=8        copies up to that many of the smallest new inputs of each target into its testdata/fuzz, where they are seeds of "make test"
# A crash is kept in testdata/fuzz by Go itself; the others run on, and the exit status is 1 in the end. What was run goes to _out/fuzz.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false'

select=${1:-.} time=${FUZZTIME:-1m} parallel=${PARALLEL:-2} keep=${KEEP:-0}
out=_out/fuzz.txt
mkdir -p _out
: >"$out"

targets=$(git grep -oE --untracked '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' |
	sed -E 's#^(.*)/[^/]+:func (Fuzz.*)$#./\1 \2#' | sort -u | grep -E "$select")
total=$(wc -l <<<"$targets") n=0 failed=0

# keep_small copies the smallest inputs that a run found beside its seeds.
keep_small() {
	local pkg=$1 target=$2 cache
	cache=$(go env GOCACHE)/fuzz/$(go list "$pkg")/$target
	[ -d "$cache" ] || return 0
	mkdir -p "$pkg/testdata/fuzz/$target"
	find "$cache" -type f -size -2k -printf '%s %p\n' | sort -n | awk '{print $2}' |
		awk -v n="$keep" '{all[NR] = $0} END {for (i = 1; i <= n && i <= NR; i++) print all[int((i - 0.5) * NR / (n < NR ? n : NR)) + 1]}' |
		xargs -r cp -t "$pkg/testdata/fuzz/$target"
}

while read -r pkg target; do
	n=$((n + 1))
	printf '[%d/%d] %s %s … ' "$n" "$total" "$pkg" "$target"
	log=$(mktemp)
	# Minimizing what is merely new would take most of the time.
	if go test "$pkg" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x -parallel "$parallel" >"$log" 2>&1 </dev/null; then
		execs=$(grep -oE 'execs: [0-9]+' "$log" | tail -n 1 | cut -d' ' -f2 || true)
		inputs=$(grep -oE 'total: [0-9]+' "$log" | tail -n 1 | cut -d' ' -f2 || true)
		echo "${execs:-0} executions, ${inputs:-0} inputs"
		echo "$pkg $target ok ${execs:-0} ${inputs:-0}" >>"$out"
		if [ "$keep" -gt 0 ]; then keep_small "$pkg" "$target"; fi
	else
		failed=$((failed + 1))
		echo FAILED
		tail -n 40 "$log"
		echo "$pkg $target failed" >>"$out"
	fi
	rm -f "$log"
done <<<"$targets"

echo "$((total - failed)) of $total targets passed"
[ "$failed" -eq 0 ]
