// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/termination"
)

// TestManifestNamesTheTaints compares the taints that the API server is told to ask about with those that the program knows.
func TestManifestNamesTheTaints(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "manifests", "webhook", "webhook-configuration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var config admissionregistrationv1.MutatingWebhookConfiguration
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(config.Webhooks, func(w admissionregistrationv1.MutatingWebhook) bool {
		return *w.ClientConfig.Service.Path == admission.PathNode
	})
	if i < 0 {
		t.Fatalf("no webhook has the path %q", admission.PathNode)
	}
	var named, known []string
	for _, match := range regexp.MustCompile(`'([^']*)'`).FindAllStringSubmatch(config.Webhooks[i].MatchConditions[0].Expression, -1) {
		named = append(named, match[1])
	}
	for _, taint := range termination.Defaults() {
		known = append(known, taint.Key)
	}
	if diff := cmp.Diff(known, named); diff != "" {
		t.Errorf("taints (-known +in the manifest):\n%s", diff)
	}
}
