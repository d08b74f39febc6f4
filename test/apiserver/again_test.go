// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// firstCallsFail points every webhook but the second chances at a port where nobody listens, as for a replica that has just died.
func firstCallsFail(t *testing.T, ns string) {
	t.Helper()
	takeDown(t, func(webhook string) bool { return !strings.Contains(webhook, "-again.") })
	// A forged label keeps the second call away: once it stays, the first one fails.
	within(t, 10*time.Second, "the first calls fail", func() bool {
		return create(t, newPod(ns, forged), client.DryRunAll).Annotations[v1alpha1.AnnotationTemplateHash] == ""
	})
}

func forged(p *corev1.Pod) { p.Labels = map[string]string{v1alpha1.LabelEnabled: "true"} }

// TestAskedAgain is a webhook of which one replica has just died: what the first call passed over, the second one gets.
func TestAskedAgain(t *testing.T) {
	ns := namespace(t, nil)
	running := runPod(t, newPod(ns))
	bystander := runPod(t, newPod(ns, plain))
	firstCallsFail(t, ns)

	pods, evictions := calls[admission.PathPod].Load(), calls[admission.PathEviction].Load()
	if got := create(t, newPod(ns)); got.Labels[v1alpha1.LabelEnabled] == "" || got.Annotations[v1alpha1.AnnotationTemplateHash] == "" {
		t.Errorf("an opted-in pod was passed over: %v %v", got.Labels, got.Annotations)
	}
	create(t, newPod(ns, plain))
	if n := calls[admission.PathPod].Load() - pods; n != 1 {
		t.Errorf("%d calls for pods, want 1", n)
	}
	if err := clientset(t).CoreV1().Pods(ns).EvictV1(t.Context(), evictionOf(running)); !apierrors.IsTooManyRequests(err) {
		t.Errorf("evicting an opted-in pod: %v, want it put off", err)
	}
	if err := clientset(t).CoreV1().Pods(ns).EvictV1(t.Context(), evictionOf(bystander)); err != nil {
		t.Errorf("evicting another pod: %v", err)
	}
	if n := calls[admission.PathEviction].Load() - evictions; n != 2 {
		t.Errorf("%d calls for evictions, want 2", n)
	}
}
