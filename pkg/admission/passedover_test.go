// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func TestPodPassesOver(t *testing.T) {
	of := func(kind, name string, slot string) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) {
			pc.Status.Owner = &v1alpha1.Owner{UID: "o0", Kind: kind, Name: name, Slot: slot}
		}
	}
	changed := func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"other"} }
	older := func(pc *v1alpha1.PodCheckpoint) { pc.Status.TemplateHash = "older" }
	unfenced := func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Fence = false }
	lost := func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionSourceLost, Status: metav1.ConditionTrue}}
	}
	const (
		rollout  = `PodCheckpoint CheckpointPassedOver: A new pod of ReplicaSet "web-def" does not start from it: it is of another controller; `
		template = `PodCheckpoint CheckpointPassedOver: A new pod of ReplicaSet "web" does not start from it: the pod's template has changed; `
		next     = "it waits for one that may, and expires when none comes"
	)
	newSet := ownedBy("ReplicaSet", "web-def", "def")
	for name, tc := range map[string]struct {
		pod *corev1.Pod
		pc  *v1alpha1.PodCheckpoint
		// want is the event but for its end.
		want string
	}{
		"a rollout":                      {replacement(newSet), readyFrom("web-a", now, of("ReplicaSet", "web-abc", "")), rollout},
		"another template, same owner":   {replacement(changed), readyFrom("web-a", now), template},
		"another template by then":       {replacement(), readyFrom("web-a", now, older), template},
		"on a schedule, its source gone": {replacement(), readyFrom("web-a", now, older, unfenced, lost), template},

		"on a schedule":              {replacement(), readyFrom("web-a", now, older, unfenced), ""},
		"it fits":                    {replacement(), readyFrom("web-a", now), ""},
		"not Ready":                  {replacement(), attempt(1, v1alpha1.PhaseFailed, 0, of("ReplicaSet", "web", "")), ""},
		"of another slot":            {replacement(), readyFrom("web-a", now, of("ReplicaSet", "web", "web-1"), func(pc *v1alpha1.PodCheckpoint) { pc.Status.Owner.UID = "o1" }), ""},
		"of another Deployment":      {replacement(newSet), readyFrom("web-a", now, of("ReplicaSet", "shop-abc", "")), ""},
		"of one with a longer name":  {replacement(newSet), readyFrom("web-a", now, of("ReplicaSet", "web-shop-abc", "")), ""},
		"of another kind":            {replacement(newSet), readyFrom("web-a", now, of("Job", "web-abc", "")), ""},
		"of a set of no Deployment":  {replacement(ownedBy("ReplicaSet", "web-def", "")), readyFrom("web-a", now, of("ReplicaSet", "web-abc", "")), ""},
		"of nobody":                  {replacement(func(p *corev1.Pod) { p.OwnerReferences = nil }), readyFrom("web-a", now), ""},
		"it belongs to nobody known": {replacement(), readyFrom("web-a", now, func(pc *v1alpha1.PodCheckpoint) { pc.Status.Owner = nil }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.pc)
			h := admission.NewPodCreate(w.deps, w.options, func() string { return "id" })
			for range 2 {
				w.createWith(h, "request", tc.pod, false)
			}
			var got []string
			for _, e := range w.events.all() {
				if strings.Contains(e, "CheckpointPassedOver") {
					got = append(got, e)
				}
			}
			var want []string
			if tc.want != "" {
				want = []string{tc.want + next}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// ownedBy makes the pod one of that controller, another than running()'s, with that label of a Deployment's template.
func ownedBy(kind, name, hash string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences[0].Kind, p.OwnerReferences[0].Name, p.OwnerReferences[0].UID = kind, name, "o2"
		p.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	}
}

func TestPodPassesOverInADryRun(t *testing.T) {
	w := newWorld(t, readyFrom("web-a", now, func(pc *v1alpha1.PodCheckpoint) { pc.Status.TemplateHash = "older" }))
	w.create(replacement(), true)
	if e := w.events.all(); len(e) != 0 {
		t.Errorf("events %q of a dry run", e)
	}
}
