// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/pkg/admission"
)

// cordonWebhook is what the component for cordons adds to the webhook configuration.
func cordonWebhook(t *testing.T) admissionregv1.MutatingWebhook {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(server.Checkout, "manifests", "components", "cordon", "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var component struct {
		Patches []struct{ Patch string }
	}
	if err := yaml.Unmarshal(text, &component); err != nil {
		t.Fatal(err)
	}
	for _, p := range component.Patches {
		var added []struct {
			Path  string
			Value admissionregv1.MutatingWebhook
		}
		if strings.Contains(p.Patch, "/webhooks/-") {
			if err := yaml.Unmarshal([]byte(p.Patch), &added); err != nil {
				t.Fatal(err)
			}
			return added[0].Value
		}
	}
	t.Fatal("the component adds no webhook")
	return admissionregv1.MutatingWebhook{}
}

// TestCordonComponent has only cordons, and their ends, make calls.
func TestCordonComponent(t *testing.T) {
	hook := cordonWebhook(t)
	var installed admissionregv1.MutatingWebhookConfiguration
	if err := admin.Get(t.Context(), client.ObjectKey{Name: "cryopod"}, &installed); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(installed.Webhooks, func(w admissionregv1.MutatingWebhook) bool { return w.Name == "nodes.checkpoint.io" })
	if path := hook.ClientConfig.Service.Path; path == nil || *path != admission.PathNode {
		t.Fatalf("the component's webhook has the path %v", path)
	}
	hook.ClientConfig = installed.Webhooks[i].ClientConfig
	config := create(t, &admissionregv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "cordon-"}, Webhooks: []admissionregv1.MutatingWebhook{hook},
	})
	t.Cleanup(func() { _ = admin.Delete(context.Background(), config) })

	node := newNode(t)
	cordon := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	within(t, 10*time.Second, "the API server asks about cordons", func() bool {
		return change(t, node.DeepCopy(), cordon, client.DryRunAll) == 1
	})
	for _, step := range []struct {
		what string
		f    func(*corev1.Node)
		want int64
	}{
		{"a cordon", cordon, 1},
		{"a label", func(n *corev1.Node) { n.Labels = map[string]string{"a": "b"} }, 0},
		{"a taint", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectNoSchedule}} }, 0},
		{"the end of the cordon", func(n *corev1.Node) { n.Spec.Unschedulable = false }, 1},
	} {
		if n := change(t, node, step.f); n != step.want {
			t.Errorf("%s made %d calls, want %d", step.what, n, step.want)
		}
	}
}
