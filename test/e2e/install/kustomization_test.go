// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/test/e2e/install"
)

const overlay = `apiVersion: kustomize.config.k8s.io/v1beta1
configMapGenerator:
- behavior: merge
  literals:
  - registry=registry.local:5000/checkpoints
  name: cryopod-agent
  namespace: cryopod-system
images:
- digest: sha256:aa
  name: cryopod.io/agent
  newName: registry.local:5000/cryopod/agent
- digest: sha256:bb
  name: cryopod.io/webhook
  newName: registry.local:5000/cryopod/webhook
kind: Kustomization
resources:
- ../manifests
`

func TestKustomization(t *testing.T) {
	digests, err := install.ParseDigests("127.0.0.1:41/cryopod/webhook@sha256:bb\n127.0.0.1:41/cryopod/agent@sha256:aa\n")
	if err != nil {
		t.Fatal(err)
	}
	got, err := yaml.Marshal(install.Kustomization("../manifests", "registry.local:5000", digests))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(overlay, string(got)); diff != "" {
		t.Errorf("overlay (-want +got):\n%s", diff)
	}
}

func TestParseDigestsRefusesOtherLines(t *testing.T) {
	if got, err := install.ParseDigests("registry/webhook:dev\n"); err == nil {
		t.Errorf("ParseDigests = %v, want an error", got)
	}
}
