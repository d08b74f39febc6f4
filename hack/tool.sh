#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds a development tool that a module in hack/tools/dev pins, unless the cache has it, and prints its path.
# Usage: hack/tool.sh NAME
set -euo pipefail

name=${1:?usage: hack/tool.sh NAME}
module="$(dirname "$0")/tools/dev/$name"
[[ -f $module/go.mod ]] || { echo "no tool named $name: $(ls "$(dirname "$0")/tools/dev" | xargs)" >&2; exit 1; }

cache=${CRYOPOD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cryopod}
key=$(cat "$module/go.mod" "$module/go.sum" <(go env GOVERSION GOOS GOARCH) | sha256sum | cut -c1-12)
program=$cache/dev/$name-$key/$name

if [[ ! -x $program ]]; then
	echo "building $name (once, some minutes)" >&2
	mkdir -p "$(dirname "$program")"
	building=$(mktemp "$program.XXXXXX")
	trap 'rm -f "$building"' EXIT
	package=$(sed -n 's/^tool //p' "$module/go.mod")
	(cd "$module" && CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly go build -trimpath -ldflags '-s -w' -o "$building" "$package")
	chmod 755 "$building"
	mv "$building" "$program"
fi
echo "$program"
