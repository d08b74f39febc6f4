// SPDX-License-Identifier: Apache-2.0

package evacuation_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/evacuation"
	eventfake "github.com/cryopod/cryopod/pkg/checkpoint/event/fake"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/checkpoint/removal"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/termination"
)

// TestCallOff looks at the attempts on a node that has no notice (any more).
func TestCallOff(t *testing.T) {
	ofEviction := func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Reason = v1alpha1.ReasonEviction }
	in := func(phase v1alpha1.Phase) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) { pc.Status.Phase = phase }
	}
	deleted := func(pc *v1alpha1.PodCheckpoint) {
		pc.Spec.Removal = v1alpha1.RemovalEvict
		pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionRemovalAsked, Status: metav1.ConditionTrue}}
	}
	for name, tc := range map[string]struct {
		change func(*v1alpha1.PodCheckpoint)
		taints []corev1.Taint
		want   bool
	}{
		"being made":                  {change: in(v1alpha1.PhaseDumping), want: true},
		"waiting for its turn":        {change: in(v1alpha1.PhasePending), want: true},
		"Ready":                       {change: in(v1alpha1.PhaseReady), want: true},
		"claimed":                     {change: in(v1alpha1.PhaseClaimed)},
		"over":                        {change: in(v1alpha1.PhaseFailed)},
		"of an eviction":              {change: ofEviction},
		"somebody has deleted it too": {change: deleted},
		"the node ends":               {change: in(v1alpha1.PhaseDumping), taints: []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler", Effect: corev1.TaintEffectNoSchedule}}},
		"the taint manager's doing":   {change: in(v1alpha1.PhaseDumping), taints: []corev1.Taint{{Key: "x", Effect: corev1.TaintEffectNoExecute}}},
	} {
		t.Run(name, func(t *testing.T) {
			scheme := runtime.NewScheme()
			for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
				if err := add(scheme); err != nil {
					t.Fatal(err)
				}
			}
			pc := &v1alpha1.PodCheckpoint{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "cart-1"},
				Spec: v1alpha1.PodCheckpointSpec{
					PodName: "cart", PodUID: "uid", NodeName: "n1", Reason: v1alpha1.ReasonTermination, Fence: true, Removal: v1alpha1.RemovalDelete,
				},
			}
			tc.change(pc)
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{Taints: tc.taints}}
			c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(node, pc).WithStatusSubresource(pc).
				WithIndex(&corev1.Pod{}, index.NodeName, index.ByNodeName).WithIndex(pc, index.NodeName, index.ByNodeName).Build()
			r := &evacuation.Reconciler{
				Remover: removal.Remover{Client: c, Live: c, Events: &eventfake.Recorder{}, Clock: clocktesting.NewFakePassiveClock(time.Now())},
				Taints:  termination.Defaults(),
			}
			if _, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "n1"}}); err != nil {
				t.Fatal(err)
			}
			if err := c.Get(t.Context(), client.ObjectKeyFromObject(pc), pc); err != nil {
				t.Fatal(err)
			}
			if got := match.CalledOff(pc) != ""; got != tc.want {
				t.Errorf("called off: %t, want %t", got, tc.want)
			}
		})
	}
}
