// SPDX-License-Identifier: Apache-2.0

package descheduler_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/descheduler"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/match"
)

const (
	asked  = "descheduler.alpha.kubernetes.io/request-evict-only"
	marked = "descheduler.alpha.kubernetes.io/eviction-in-progress"
)

func podWith(annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "uid", Annotations: annotations}}
}

func attempt(n int, phase v1alpha1.Phase, fence bool) v1alpha1.PodCheckpoint {
	pc := match.NewCheckpoint(podWith(nil), match.Request{Attempt: n, Reason: v1alpha1.ReasonEviction, Fence: fence})
	pc.Status.Phase = phase
	return *pc
}

func TestReconcile(t *testing.T) {
	was := map[string]string{asked: ""}
	is := map[string]string{asked: "", marked: "cryopod"}
	for name, tc := range map[string]struct {
		have        map[string]string
		checkpoints []v1alpha1.PodCheckpoint
		want        map[string]string
	}{
		"not asked for":              {map[string]string{"a": "b"}, []v1alpha1.PodCheckpoint{attempt(1, v1alpha1.PhaseDumping, true)}, map[string]string{"a": "b"}},
		"not being saved":            {was, nil, was},
		"just begun":                 {was, []v1alpha1.PodCheckpoint{attempt(1, "", true)}, is},
		"being saved":                {was, []v1alpha1.PodCheckpoint{attempt(1, v1alpha1.PhaseExporting, true)}, is},
		"marked already":             {is, []v1alpha1.PodCheckpoint{attempt(1, v1alpha1.PhaseReady, true)}, is},
		"released, it stays":         {is, []v1alpha1.PodCheckpoint{attempt(1, v1alpha1.PhaseReleased, true)}, was},
		"failed":                     {is, []v1alpha1.PodCheckpoint{attempt(1, v1alpha1.PhaseFailed, true)}, was},
		"failed, and begun anew":     {was, []v1alpha1.PodCheckpoint{attempt(2, v1alpha1.PhaseDumping, true), attempt(1, v1alpha1.PhaseFailed, true)}, is},
		"saved on a schedule":        {was, []v1alpha1.PodCheckpoint{attempt(1, v1alpha1.PhaseDumping, false)}, was},
		"the checkpoint was deleted": {is, nil, was},
		"marked by somebody else":    {map[string]string{asked: "", marked: "kubevirt"}, nil, map[string]string{asked: "", marked: "kubevirt"}},
		"no longer to be asked once": {map[string]string{marked: "cryopod"}, []v1alpha1.PodCheckpoint{attempt(1, v1alpha1.PhaseDumping, true)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, reconciled(t, podWith(tc.have), tc.checkpoints)); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPodThatGoes shows that a pod on its way out is let alone.
func TestPodThatGoes(t *testing.T) {
	pod := podWith(map[string]string{asked: ""})
	pod.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	if got := descheduler.Next(pod, []v1alpha1.PodCheckpoint{attempt(1, v1alpha1.PhaseReady, true)}); got != descheduler.Nothing {
		t.Errorf("Next = %q, want nothing", got)
	}
}

// reconciled are the pod's annotations after two runs.
func reconciled(t *testing.T, pod *corev1.Pod, checkpoints []v1alpha1.PodCheckpoint) map[string]string {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	objects := []client.Object{pod}
	for i := range checkpoints {
		objects = append(objects, &checkpoints[i])
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithIndex(&v1alpha1.PodCheckpoint{}, index.CheckpointPodUID, index.ByPodUID).Build()
	r := &descheduler.Reconciler{Client: c}
	for range 2 {
		if _, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pod)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
		t.Fatal(err)
	}
	return pod.Annotations
}
