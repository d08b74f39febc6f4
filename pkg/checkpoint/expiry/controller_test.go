// SPDX-License-Identifier: Apache-2.0

package expiry_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	eventfake "github.com/cryopod/cryopod/pkg/checkpoint/event/fake"
	"github.com/cryopod/cryopod/pkg/checkpoint/expiry"
)

func clientWith(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.PodCheckpoint{}).Build()
}

func source(uid types.UID) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-old", UID: uid}}
}

// named makes the checkpoint one of a StatefulSet's pod.
func named(pc *v1alpha1.PodCheckpoint) {
	pc.Status.Owner = &v1alpha1.Owner{UID: "set", APIVersion: "apps/v1", Kind: "StatefulSet", Name: "cart", Slot: "cart-old"}
}

// TestReconcile runs the controller with a cache that has only opted-in pods, and an API server that has all.
func TestReconcile(t *testing.T) {
	type outcome struct {
		Phase  v1alpha1.Phase
		After  time.Duration
		Events []string
	}
	gone := `Pod "cart-old" was gone before its checkpoint was ready; its replacement starts cold`
	for name, tc := range map[string]struct {
		pc           *v1alpha1.PodCheckpoint
		cached, live []client.Object
		age          time.Duration
		want         outcome
	}{
		"the pod is in the cache": {
			pc: checkpoint(v1alpha1.PhaseDumping), cached: []client.Object{source("old")}, age: time.Minute,
			want: outcome{Phase: v1alpha1.PhaseDumping, After: time.Minute},
		},
		"the pod is not in the cache": {
			pc: checkpoint(v1alpha1.PhaseDumping), live: []client.Object{source("old")}, age: time.Minute,
			want: outcome{Phase: v1alpha1.PhaseDumping, After: time.Minute},
		},
		"the pod is nowhere": {
			pc: checkpoint(v1alpha1.PhaseDumping), age: time.Minute,
			want: outcome{Phase: v1alpha1.PhaseFailed, Events: []string{"Warning CheckpointFailed on cart-1: " + gone}},
		},
		"another pod has its name": {
			pc: checkpoint(v1alpha1.PhaseDumping), cached: []client.Object{source("new")}, live: []client.Object{source("new")}, age: time.Minute,
			want: outcome{Phase: v1alpha1.PhaseFailed, Events: []string{"Warning CheckpointFailed on cart-1: " + gone}},
		},
		"the deadline": {
			pc: checkpoint(v1alpha1.PhaseDumping), live: []client.Object{source("old")}, age: time.Hour,
			want: outcome{Phase: v1alpha1.PhaseFailed, Events: []string{
				"Warning CheckpointFailed on cart-old: The deadline passed while the checkpoint was Dumping; the pod goes on without it",
				"Warning CheckpointFailed on cart-1: The deadline passed while the checkpoint was Dumping; the pod goes on without it",
			}},
		},
		"waits for a pod of the same name": {
			pc: checkpoint(v1alpha1.PhaseReady, named), age: 2 * time.Minute,
			want: outcome{Phase: v1alpha1.PhaseReady, After: 5 * time.Second},
		},
		"its own pod is still there": {
			pc: checkpoint(v1alpha1.PhaseReady, named), live: []client.Object{source("old")}, age: 2 * time.Minute,
			want: outcome{Phase: v1alpha1.PhaseReady, After: 5 * time.Second},
		},
		"a pod of the same name came without it": {
			pc: checkpoint(v1alpha1.PhaseReady, named), live: []client.Object{source("new")}, age: 2 * time.Minute,
			want: outcome{Phase: v1alpha1.PhaseExpired, Events: []string{
				`Warning CheckpointFailed on cart-1: Pod "cart-old" was made anew without its checkpoint and started cold`,
				`Warning CheckpointFailed on cart: Pod "cart-old" was made anew without its checkpoint and started cold`,
			}},
		},
		"a pod of the same name took it": {
			pc: checkpoint(v1alpha1.PhaseClaimed, named), live: []client.Object{source("new")}, age: 2 * time.Minute,
			want: outcome{Phase: v1alpha1.PhaseClaimed},
		},
		"expires without a word": {
			pc: checkpoint(v1alpha1.PhaseReady), age: 2 * time.Hour,
			want: outcome{Phase: v1alpha1.PhaseExpired},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, events := context.Background(), &eventfake.Recorder{}
			c := clientWith(t, append(tc.cached, tc.pc)...)
			r := &expiry.Reconciler{
				Client: c, Live: clientWith(t, tc.live...), Events: events,
				Clock: clocktesting.NewFakePassiveClock(start.Add(tc.age)), Limits: limits,
			}
			key := client.ObjectKeyFromObject(tc.pc)
			result, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: key})
			if err != nil {
				t.Fatalf("Reconcile: %v", err)
			}
			pc := &v1alpha1.PodCheckpoint{}
			if err := c.Get(ctx, key, pc); err != nil {
				t.Fatal(err)
			}
			got := outcome{Phase: pc.Status.Phase, After: result.RequeueAfter, Events: events.Lines()}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}
