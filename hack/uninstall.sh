#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Removes Cryopod from the cluster that kubectl points at: first what the API server calls, so that nothing waits for a
# webhook that is going away; then the agents, while they still may write, so that they thaw what they hold; then the rest.
set -euo pipefail
cd "$(dirname "$0")/.."

kubectl=${KUBECTL:-kubectl}
leader=$("$kubectl" --namespace kube-system get lease kube-scheduler --ignore-not-found --output jsonpath='{.spec.holderIdentity}' 2>/dev/null || true)
if [[ $leader == cryopod-scheduler-* ]]; then
	echo "Cryopod's scheduler is the cluster's own: without it nobody would place pods. Give that back first, as docs/scheduling.md says" \
		'("As the cluster'"'"'s scheduler", "Back").' >&2
	exit 1
fi
restored=$("$kubectl" get pods --all-namespaces --selector checkpoint.io/restoring=true --no-headers \
	--output custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name 2>/dev/null || true)
"$kubectl" delete mutatingwebhookconfiguration cryopod --ignore-not-found
"$kubectl" --namespace cryopod-system delete daemonset cryopod-agent --ignore-not-found --cascade=foreground
"$kubectl" delete -k manifests --ignore-not-found

if [[ -n $restored ]]; then
	printf '\nThese pods were restored, and their containers name checkpoint images. Without Cryopod, a container of theirs may start\n'
	printf 'from its checkpoint once more. Delete them when it suits; their owners make ordinary ones:\n%s\n' "$restored"
fi
waiting=$("$kubectl" get pods --all-namespaces --field-selector spec.schedulerName=cryopod-scheduler,spec.nodeName=,status.phase=Pending \
	--no-headers --output custom-columns=NAMESPACE:.metadata.namespace,NAME:.metadata.name)
if [[ -n $waiting ]]; then
	printf '\nThese pods still wait for the scheduler that is gone. Delete them; their owners make ordinary ones:\n%s\n' "$waiting"
fi
