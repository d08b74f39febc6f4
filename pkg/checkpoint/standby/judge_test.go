// SPDX-License-Identifier: Apache-2.0

package standby_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/standby"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// source is a pod of a ReplicaSet that runs on n1 since start and is saved on a schedule.
func source(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "cart-a", UID: "a", Labels: map[string]string{v1alpha1.LabelEnabled: "true"},
			CreationTimestamp: metav1.NewTime(start),
			Annotations:       map[string]string{v1alpha1.AnnotationEnabled: "true", v1alpha1.AnnotationInterval: "10m"},
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart", UID: "o1", Controller: ptr.To(true)},
			},
		},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "main", Image: "app:1"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(start)}}},
		}},
	}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

// deleted has the pod deleted an hour after start.
func deleted(p *corev1.Pod) {
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(start.Add(time.Hour+30*time.Second))), ptr.To(int64(30))
}

// collected is what Kubernetes's collector writes an hour after start.
func collected(p *corev1.Pod) {
	p.Status.Phase = corev1.PodFailed
	p.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC",
		LastTransitionTime: metav1.NewTime(start.Add(time.Hour)),
	}}
}

func ofStatefulSet(p *corev1.Pod) { p.OwnerReferences[0].Kind = "StatefulSet" }

func ended(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}

func restarted(p *corev1.Pod) {
	p.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(start.Add(59 * time.Minute))
}

// made is a checkpoint of the pod on its schedule, Ready half an hour after start, its pod frozen ten seconds before.
func made(of *corev1.Pod, attempt int, changes ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	pc := match.NewCheckpoint(of, match.Request{Attempt: attempt, Reason: v1alpha1.ReasonSchedule})
	pc.CreationTimestamp = metav1.NewTime(start.Add(30*time.Minute - 15*time.Second))
	pc.Status.Enter(v1alpha1.PhaseFreezing, "", start.Add(30*time.Minute-10*time.Second))
	pc.Status.Enter(v1alpha1.PhaseReady, "saved", start.Add(30*time.Minute))
	pc.Status.Owner, pc.Status.TemplateHash = match.OwnerOf(of), match.TemplateHash(of)
	pc.Status.Containers = []v1alpha1.ContainerCheckpoint{{Name: "main", BaseImage: "app:1", ImageTag: "r/shop:x.main"}}
	for _, c := range changes {
		c(pc)
	}
	return pc
}

func fenced(pc *v1alpha1.PodCheckpoint) {
	pc.Spec.Fence, pc.Spec.Reason = true, v1alpha1.ReasonEviction
}

func to(phase v1alpha1.Phase) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) { pc.Status.Phase = phase }
}

func claimed(pc *v1alpha1.PodCheckpoint) {
	pc.Status.Phase, pc.Status.Claim = v1alpha1.PhaseClaimed, &v1alpha1.Claim{ID: "c1"}
}

func sourceLost(is metav1.ConditionStatus) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Conditions = append(pc.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionSourceLost, Status: is, Reason: "Test"})
	}
}

// node is n1 with its condition Ready and taints.
func node(ready corev1.ConditionStatus, taints ...string) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
	}
	for _, key := range taints {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute})
	}
	return n
}

func healthy() *corev1.Node { return node(corev1.ConditionTrue) }
func silent() *corev1.Node  { return node(corev1.ConditionUnknown, corev1.TaintNodeUnreachable) }
func off() *corev1.Node {
	return node(corev1.ConditionUnknown, corev1.TaintNodeUnreachable, corev1.TaintNodeOutOfService)
}

// peer is another pod of the ReplicaSet, made that long after start.
func peer(after time.Duration, changes ...func(*corev1.Pod)) corev1.Pod {
	return *source(append([]func(*corev1.Pod){func(p *corev1.Pod) {
		p.Name, p.UID, p.CreationTimestamp = "cart-b", "b", metav1.NewTime(start.Add(after))
	}}, changes...)...)
}

func TestJudge(t *testing.T) {
	type pcs = []v1alpha1.PodCheckpoint
	type outcome struct {
		Phase   v1alpha1.Phase // empty: nothing is written
		Lost    metav1.ConditionStatus
		Fail    bool
		Told    bool
		Message string
	}
	expired := func(message string) outcome {
		return outcome{Phase: v1alpha1.PhaseExpired, Lost: metav1.ConditionFalse, Message: message}
	}
	told := func(message string) outcome {
		return outcome{Phase: v1alpha1.PhaseExpired, Lost: metav1.ConditionFalse, Told: true, Message: message}
	}
	lost := func(why string) outcome {
		return outcome{Phase: v1alpha1.PhaseReady, Lost: metav1.ConditionTrue, Told: true, Message: why}
	}
	for name, tc := range map[string]struct {
		pc       *v1alpha1.PodCheckpoint
		pod      *corev1.Pod
		gone     bool
		node     *corev1.Node
		siblings pcs
		peers    []corev1.Pod
		lacks    bool
		want     outcome
	}{
		"the pod runs":                           {pod: source(), node: healthy()},
		"the pod runs, the node is silent":       {pod: source(), node: silent()},
		"the pod runs, the node is off":          {pod: source(), node: off()},
		"the pod runs, the node object is gone":  {pod: source()},
		"another kind of checkpoint":             {pc: made(source(), 1, fenced), gone: true},
		"not ready yet":                          {pc: made(source(), 1, to(v1alpha1.PhaseExporting)), gone: true},
		"known already":                          {pc: made(source(), 1, sourceLost(metav1.ConditionTrue)), gone: true},
		"no wish any more":                       {pod: source(func(p *corev1.Pod) { p.Annotations = nil }), want: expired("not to be saved")},
		"a container was restarted":              {pod: source(restarted), want: expired(`Container "main"`)},
		"a container was restarted, then lost":   {pod: source(restarted, collected), gone: true, want: expired(`Container "main"`)},
		"superseded":                             {pod: source(), siblings: pcs{*made(source(), 2)}, want: expired("Superseded")},
		"an older one is there":                  {pc: made(source(), 2), pod: source(), siblings: pcs{*made(source(), 1)}},
		"another one is what is left":            {pod: source(collected), gone: true, siblings: pcs{*made(source(), 2, sourceLost(metav1.ConditionTrue))}, want: expired("is the one that is left")},
		"another one was what was left":          {pod: source(collected), gone: true, siblings: pcs{*made(source(), 2, sourceLost(metav1.ConditionTrue), to(v1alpha1.PhaseExpired))}, want: lost("gone")},
		"moved by a fenced one":                  {pod: source(deleted), node: healthy(), siblings: pcs{*made(source(), 2, fenced, claimed)}, want: expired("goes on from")},
		"about to be moved by a fenced one":      {pod: source(), node: healthy(), siblings: pcs{*made(source(), 2, fenced)}},
		"deleted after a fenced one":             {pod: source(deleted), node: healthy(), siblings: pcs{*made(source(), 2, fenced)}, want: expired("is newer")},
		"lost after a fenced one":                {pod: source(collected), gone: true, siblings: pcs{*made(source(), 2, fenced)}, want: expired("is newer")},
		"unseen after a fenced one":              {gone: true, siblings: pcs{*made(source(), 2, fenced)}, want: expired("is newer")},
		"lost while a fenced one was being made": {pod: source(collected), gone: true, siblings: pcs{*made(source(), 2, fenced, to(v1alpha1.PhaseDumping))}, want: outcome{Fail: true}},
		"lost after a fenced one failed":         {pod: source(collected), gone: true, siblings: pcs{*made(source(), 2, fenced, to(v1alpha1.PhaseFailed))}, want: lost("gone")},

		"evicted":                        {pod: source(deleted), node: healthy(), want: expired("was deleted")},
		"evicted, and gone":              {pod: source(deleted), gone: true, node: healthy(), want: expired("is gone, and its node")},
		"evicted, the node removed then": {pod: source(deleted), gone: true, want: told("not heard of")},
		"deleted on a silent node":       {pod: source(deleted), node: silent(), want: told("not heard of")},
		"deleted by force":               {pod: source(), gone: true, node: silent(), want: told("not heard of")},
		"finished":                       {pod: source(ended(corev1.PodSucceeded)), node: healthy(), want: expired("ended by itself")},
		"killed by the kubelet":          {pod: source(ended(corev1.PodFailed)), node: healthy(), want: expired("ended by itself")},
		"gone, unseen":                   {gone: true, node: healthy(), want: told("nobody saw how")},
		"gone, unseen, on a node off":    {gone: true, node: off(), want: told("nobody saw how")},

		"collected":                         {pod: source(collected), want: lost("old")},
		"collected, and gone":               {pod: source(collected), gone: true, want: lost("30m10s old")},
		"collected long after its deletion": {pod: source(deleted, collected), gone: true, want: lost("gone")},
		"the same, replaced meanwhile":      {pod: source(deleted, collected), gone: true, peers: []corev1.Pod{peer(time.Hour)}, want: told(`Pod "cart-b" was made in place`)},
		"the same, others of its owner went as well": {
			pod: source(deleted, collected), gone: true, peers: []corev1.Pod{peer(time.Hour)}, lacks: true, want: lost("gone"),
		},
		"the same, another restored meanwhile":   {pod: source(deleted, collected), gone: true, peers: []corev1.Pod{peer(time.Hour, restoring)}, want: lost("gone")},
		"the same, another made before":          {pod: source(deleted, collected), gone: true, peers: []corev1.Pod{peer(time.Minute)}, want: lost("gone")},
		"deleted on a node off":                  {pod: source(deleted), node: off(), want: lost("out of service")},
		"the same, and gone":                     {pod: source(deleted, ended(corev1.PodFailed)), gone: true, node: off(), want: lost("out of service")},
		"the same, replaced meanwhile, node off": {pod: source(deleted), node: off(), peers: []corev1.Pod{peer(2 * time.Hour)}, want: told("made in place")},
		"deleted on a node that is off but ready": {
			pod: source(deleted), node: node(corev1.ConditionTrue, corev1.TaintNodeOutOfService), want: expired("was deleted"),
		},

		"by name: deleted on a silent node":        {pc: made(source(ofStatefulSet), 1), pod: source(ofStatefulSet, deleted), node: silent()},
		"by name: deleted, node object gone":       {pc: made(source(ofStatefulSet), 1), pod: source(ofStatefulSet, deleted)},
		"by name: the node came back":              {pc: made(source(ofStatefulSet), 1), pod: source(ofStatefulSet, deleted), node: healthy(), want: expired("was deleted")},
		"by name: gone from a silent node":         {pc: made(source(ofStatefulSet), 1), pod: source(ofStatefulSet, deleted), gone: true, node: silent(), want: told("not heard of")},
		"by name: collected then":                  {pc: made(source(ofStatefulSet), 1), pod: source(ofStatefulSet, deleted, collected), gone: true, want: lost("gone")},
		"by name: the node is declared off":        {pc: made(source(ofStatefulSet), 1), pod: source(ofStatefulSet, deleted), node: off(), want: lost("out of service")},
		"by name: made anew before that was known": {pc: made(source(ofStatefulSet), 1), pod: source(ofStatefulSet, collected), gone: true, peers: []corev1.Pod{*source(ofStatefulSet, anew)}, want: told("in place")},
	} {
		t.Run(name, func(t *testing.T) {
			pc := tc.pc
			if pc == nil {
				pc = made(source(), 1)
			}
			before := pc.DeepCopy()
			v := standby.Judge(standby.Case{
				Checkpoint: pc, Siblings: append(tc.siblings, *pc), Source: standby.Source{Pod: tc.pod, Gone: tc.gone}, Node: tc.node,
				Peers: tc.peers, Lacks: tc.lacks, Now: start.Add(time.Hour),
			})
			got := outcome{Fail: v.Fail != nil, Told: v.Event.Reason != ""}
			if v.Status != nil {
				got.Phase, got.Message = v.Status.Phase, v.Status.Message
				got.Lost = meta.FindStatusCondition(v.Status.Conditions, v1alpha1.ConditionSourceLost).Status
				want := metrics.OutcomeExpired
				if v.Lost {
					want = metrics.OutcomeSourceLost
				}
				if v.Lost != (got.Lost == metav1.ConditionTrue) || v.Outcome != want {
					t.Errorf("Lost = %t and outcome %q with the condition %s", v.Lost, v.Outcome, got.Lost)
				}
			}
			contained := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Message" }, cmp.Comparer(func(a, b string) bool {
				return (a == "") == (b == "") && (strings.Contains(a, b) || strings.Contains(b, a))
			}))
			if diff := cmp.Diff(tc.want, got, contained); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, pc); diff != "" {
				t.Errorf("the PodCheckpoint given was changed:\n%s", diff)
			}
		})
	}
}

func restoring(p *corev1.Pod) { p.Annotations[v1alpha1.AnnotationRestoreFrom] = "x" }

// anew makes the pod another one of the same name.
func anew(p *corev1.Pod) {
	p.UID, p.CreationTimestamp = "a2", metav1.NewTime(start.Add(2*time.Hour))
}
