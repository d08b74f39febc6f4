#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs Cryopod on the cluster that kubectl points at.
# REGISTRY (and TAG) name the images that "make images" pushed; CHECKPOINTS is where agents push checkpoints
# (default: REGISTRY/checkpoints).
set -euo pipefail
cd "$(dirname "$0")/.."

kubectl=${KUBECTL:-kubectl}
tag=${TAG:-dev}
[[ -n ${REGISTRY:-} ]] || { echo 'REGISTRY is missing, as in: make install REGISTRY=registry.example/cryopod' >&2; exit 1; }

overlay=_out/install/kubectl
mkdir -p "$overlay"
{
	cat <<-END
		apiVersion: kustomize.config.k8s.io/v1beta1
		kind: Kustomization
		resources:
		- ../../../manifests
		images:
	END
	for component in webhook scheduler agent; do
		printf -- '- name: cryopod.io/%s\n  newName: %s/%s\n  newTag: "%s"\n' "$component" "$REGISTRY" "$component" "$tag"
	done
	cat <<-END
		configMapGenerator:
		- name: cryopod-agent
		  namespace: cryopod-system
		  behavior: merge
		  literals:
		  - registry=${CHECKPOINTS:-$REGISTRY/checkpoints}
	END
} >"$overlay/kustomization.yaml"

"$kubectl" apply --server-side --force-conflicts -k "$overlay"
for part in deployment/cryopod-webhook deployment/cryopod-scheduler daemonset/cryopod-agent; do
	"$kubectl" --namespace cryopod-system rollout status --timeout 3m "$part"
done
echo 'Cryopod is installed. What each node can do: kubectl get nodeprofiles'
