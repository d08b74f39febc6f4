#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Checks what a reviewer should not have to. Every check runs; the exit status tells if one failed.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=0
check() { # NAME COMMAND...
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then
		printf 'ok    %s\n' "$name"
	else
		printf 'FAIL  %s\n%s\n' "$name" "$(sed 's/^/      /' <<<"$out")"
		failed=1
	fi
}

# tracked prints the files of the given patterns that git knows and that are there.
tracked() { git ls-files -- "$@" | while read -r f; do [[ -f $f ]] && echo "$f"; done; }

formatted() {
	local wrong
	wrong=$(tracked '*.go' | xargs gofmt -l)
	[[ -z $wrong ]] || { echo "run gofmt -w on:" $wrong; return 1; }
}

licensed() {
	local f status=0
	while read -r f; do
		head -n 5 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || { echo "$f has no licence line"; status=1; }
	done < <(tracked '*.go' '*.sh' '*.c' '*.py' '*.js' '*.java' Makefile .ci/run)
	return $status
}

tidy() {
	local f status=0
	while read -r f; do
		(cd "$(dirname "$f")" && GOWORK=off GOFLAGS=-mod=mod go mod tidy -diff) || { echo "run go mod tidy in $(dirname "$f")"; status=1; }
	done < <(tracked 'go.mod' '*/go.mod')
	return $status
}

# Neither where this checkout is nor the mirrors that this machine uses are anybody else's business.
portable() {
	local words=("$PWD") proxy url
	for proxy in $(go env GOPROXY | tr ',|' '  '); do
		[[ $proxy == *://* ]] && words+=("$(sed 's#^[a-z]*://\([^/@]*@\)\{0,1\}##; s#[:/].*##' <<<"$proxy")")
	done
	if command -v apt-get >/dev/null; then
		for url in $(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | sort -u); do
			[[ $url == http* ]] && words+=("$(sed 's#^[a-z]*://\([^/@]*@\)\{0,1\}##; s#[:/].*##' <<<"$url")")
		done
	fi
	local word status=0
	for word in $(printf '%s\n' "${words[@]}" | sort -u); do
		case $word in
		proxy.golang.org | deb.debian.org | security.debian.org | localhost | 127.0.0.1 | /) continue ;;
		esac
		if git grep --untracked -nIF -e "$word" -- . ':!*.sum'; then
			status=1
		fi
	done
	return $status
}

check 'formatting' formatted
check 'licence lines' licensed
check 'generated code' hack/generate.sh --check
check 'go.mod files are tidy' tidy
check 'import rules' go test ./test/imports
check 'no path or host of this machine' portable
exit $failed
