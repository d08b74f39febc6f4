#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Removes Cryopod from the cluster that kubectl points at: first what the API server calls, so that nothing waits for a
# webhook that is going away; then the rest.
set -euo pipefail
cd "$(dirname "$0")/.."

kubectl=${KUBECTL:-kubectl}
"$kubectl" delete mutatingwebhookconfiguration cryopod --ignore-not-found
"$kubectl" delete -k manifests --ignore-not-found
