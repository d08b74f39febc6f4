// SPDX-License-Identifier: Apache-2.0

package claim_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/claim"
	eventfake "github.com/cryopod/cryopod/pkg/checkpoint/event/fake"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
)

func clientWith(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.PodCheckpoint{}).
		WithIndex(&corev1.Pod{}, index.PodRestoreFrom, index.ByRestoreFrom).Build()
}

// TestReconcile runs the controller with a cache and an API server that differ, as they do for a moment after each change.
func TestReconcile(t *testing.T) {
	type outcome struct {
		Phase   v1alpha1.Phase
		PodName string
		After   time.Duration
		Events  []string
	}
	took := `Pod "cart-new" takes over from pod "cart-old" by PodCheckpoint "cart-1"; restoring it on the node that it is scheduled to`
	gone := `Pod "cart-new" was deleted before it was seen running from its checkpoint; the next one starts cold`
	for name, tc := range map[string]struct {
		pc           *v1alpha1.PodCheckpoint
		cached, live []client.Object
		age          time.Duration
		want         outcome
	}{
		"binds the pod": {
			pc: claimed(), cached: []client.Object{replacement("c1")},
			want: outcome{Phase: v1alpha1.PhaseClaimed, PodName: "cart-new", Events: []string{
				"Normal CheckpointClaimed on cart-new: " + took,
			}},
		},
		"waits for the pod without asking": {
			pc: claimed(), age: time.Second,
			want: outcome{Phase: v1alpha1.PhaseClaimed, After: 74 * time.Second},
		},
		"finds a late pod that the cache does not have": {
			pc: claimed(), age: time.Hour, live: []client.Object{replacement("c1")},
			want: outcome{Phase: v1alpha1.PhaseClaimed, PodName: "cart-new", Events: []string{
				"Normal CheckpointClaimed on cart-new: " + took,
			}},
		},
		"gives the checkpoint back": {
			pc: claimed(), age: time.Hour, live: []client.Object{replacement("c0")},
			want: outcome{Phase: v1alpha1.PhaseReady},
		},
		"keeps a bound claim while the pod is only missing in the cache": {
			pc: claimed(bound), live: []client.Object{replacement("c1")},
			want: outcome{Phase: v1alpha1.PhaseClaimed, PodName: "cart-new"},
		},
		"ends a bound claim without a pod": {
			pc: claimed(bound), live: []client.Object{replacement("c1", func(p *corev1.Pod) { p.UID = "newer" })},
			want: outcome{Phase: v1alpha1.PhaseFailed, PodName: "cart-new", Events: []string{
				"Warning RestoreFailed on cart-1: " + gone,
				"Warning RestoreFailed on cart: " + gone,
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cached, events := clientWith(t, append(tc.cached, tc.pc)...), &eventfake.Recorder{}
			r := &claim.Reconciler{
				Client: cached, Live: clientWith(t, append(tc.live, tc.pc)...), Events: events,
				Clock: clocktesting.NewFakePassiveClock(start.Add(tc.age)), UnboundAfter: unboundAfter,
			}
			key := client.ObjectKeyFromObject(tc.pc)
			result, err := r.Reconcile(context.Background(), reconcile.Request{NamespacedName: key})
			if err != nil {
				t.Fatalf("Reconcile: %v", err)
			}
			pc := &v1alpha1.PodCheckpoint{}
			if err := cached.Get(context.Background(), key, pc); err != nil {
				t.Fatal(err)
			}
			got := outcome{Phase: pc.Status.Phase, After: result.RequeueAfter, Events: events.Lines()}
			if pc.Status.Claim != nil {
				got.PodName = pc.Status.Claim.PodName
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}

// TestConflict shows that a claim that changed after it was read is left to the next run.
func TestConflict(t *testing.T) {
	ctx, events := context.Background(), &eventfake.Recorder{}
	server := clientWith(t, claimed(), replacement("c1"))
	stale := &v1alpha1.PodCheckpoint{}
	key := client.ObjectKey{Namespace: "shop", Name: "cart-1"}
	if err := server.Get(ctx, key, stale); err != nil {
		t.Fatal(err)
	}
	other := stale.DeepCopy()
	other.Status.Phase = v1alpha1.PhaseRestored
	if err := server.Status().Update(ctx, other); err != nil {
		t.Fatal(err)
	}
	r := &claim.Reconciler{
		Client: behind{server, stale}, Live: server, Events: events,
		Clock: clocktesting.NewFakePassiveClock(start), UnboundAfter: unboundAfter,
	}
	if _, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: key}); err != nil {
		t.Errorf("Reconcile: %v, want no error for a conflict", err)
	}
	pc := &v1alpha1.PodCheckpoint{}
	if err := server.Get(ctx, key, pc); err != nil {
		t.Fatal(err)
	}
	if pc.Status.Phase != v1alpha1.PhaseRestored || pc.Status.Claim.PodUID != "" || len(events.Lines()) != 0 {
		t.Errorf("phase %s, bound to %q, events %v: want the other writer's", pc.Status.Phase, pc.Status.Claim.PodUID, events.Lines())
	}
}

// behind is a client whose cache has an old version of one PodCheckpoint.
type behind struct {
	client.Client
	stale *v1alpha1.PodCheckpoint
}

func (b behind) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if pc, ok := obj.(*v1alpha1.PodCheckpoint); ok {
		b.stale.DeepCopyInto(pc)
		return nil
	}
	return b.Client.Get(ctx, key, obj, opts...)
}
