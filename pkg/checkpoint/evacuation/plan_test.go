// SPDX-License-Identifier: Apache-2.0

package evacuation_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/evacuation"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/termination"
)

const (
	spot      = "aws-node-termination-handler/spot-itn"
	karpenter = "karpenter.sh/disrupted"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newPod is an opted-in pod of a ReplicaSet that runs on node-1.
func newPod(name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	yes := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{v1alpha1.LabelEnabled: "true", "app": "cart"},
			Annotations:     map[string]string{v1alpha1.AnnotationEnabled: "true"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "carts", UID: "rs", Controller: &yes}},
		},
		Spec: corev1.PodSpec{NodeName: "node-1"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
		},
	}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func owned(kind string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.OwnerReferences[0].Kind = kind }
}

func notRunning(p *corev1.Pod) { p.Status.ContainerStatuses[0].State.Running = nil }

// attempt is the pod's n-th, made at that age of the notice and in the phase since a second later.
func attempt(pod *corev1.Pod, n int, age time.Duration, phase v1alpha1.Phase, changes ...func(*v1alpha1.PodCheckpoint)) v1alpha1.PodCheckpoint {
	pc := match.NewCheckpoint(pod, match.Request{Attempt: n, Reason: v1alpha1.ReasonEviction, Deadline: start.Add(age + 2*time.Minute), Fence: true})
	pc.CreationTimestamp = metav1.NewTime(start.Add(age))
	if phase != "" {
		pc.Status.Enter(phase, "criu: no", start.Add(age+time.Second))
	}
	for _, c := range changes {
		c(pc)
	}
	return *pc
}

func removedBy(r v1alpha1.Removal) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Removal = r }
}

func able() *v1alpha1.NodeProfile {
	p := &v1alpha1.NodeProfile{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionCanCheckpoint, Status: metav1.ConditionTrue}}
	return p
}

// ending is one by that taint, of 2 min from start on.
func ending(cause string, voluntary bool) evacuation.Ending {
	n := termination.Notice{Cause: cause, Since: start, Deadline: start.Add(2 * time.Minute), Voluntary: voluntary}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Annotations: map[string]string{v1alpha1.AnnotationNotice: n.Encode()}}}
	return evacuation.Endings(node, nil, start)[0]
}

// plain is an action for people to read.
func plain(a evacuation.Action) string {
	text := fmt.Sprintf("%s %s", a.Do, a.Pod.Name)
	switch a.Do {
	case evacuation.Begin:
		text += fmt.Sprintf(" %d %s %s by %s", a.Request.Attempt, a.Request.Reason, a.Request.Removal, a.Request.Deadline.Sub(start))
	case evacuation.Remove:
		if a.Checkpoint != nil {
			text += fmt.Sprintf(" after %d", match.Attempt(a.Checkpoint.Name))
		}
		if a.Cold != "" {
			text += ": " + a.Cold
		}
	case evacuation.GiveUp:
		text += fmt.Sprintf(" %d: %s", match.Attempt(a.Checkpoint.Name), a.Cold)
	default:
		text += fmt.Sprintf(" for %s", a.After)
	}
	return text
}

func TestPlan(t *testing.T) {
	const noAgent = `Remove a: the node "node-1" has no Cryopod agent`
	pod := newPod("a")
	released := func(reason string) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) {
			pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason}}
		}
	}
	unfenced := func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Fence = false }
	begin := []string{"Begin a 1 Termination Delete by 1m53s"}
	for name, tc := range map[string]struct {
		pod         *corev1.Pod
		checkpoints []v1alpha1.PodCheckpoint
		noProfile   bool
		at          time.Duration
		want        []string
	}{
		"a pod":                             {pod: pod, want: begin},
		"late":                              {pod: pod, at: 112 * time.Second, want: begin},
		"too late":                          {pod: pod, at: 113 * time.Second, want: []string{"Remove a: the node ends at 2026-01-02T03:06:05Z, too soon to begin"}},
		"its owner has less patience":       {pod: newPod("a", annotated(v1alpha1.AnnotationDeadline, "30s")), at: 10 * time.Second, want: []string{"Begin a 1 Termination Delete by 40s"}},
		"its owner has more":                {pod: newPod("a", annotated(v1alpha1.AnnotationDeadline, "10m")), want: begin},
		"not opted in":                      {pod: newPod("a", annotated(v1alpha1.AnnotationEnabled, "false"))},
		"not admitted":                      {pod: newPod("a", func(p *corev1.Pod) { p.Labels = nil })},
		"not for this":                      {pod: newPod("a", annotated(v1alpha1.AnnotationOn, "eviction"))},
		"on another node":                   {pod: newPod("a", func(p *corev1.Pod) { p.Spec.NodeName = "node-2" })},
		"no controller":                     {pod: newPod("a", func(p *corev1.Pod) { p.OwnerReferences = nil })},
		"a DaemonSet's":                     {pod: newPod("a", owned("DaemonSet"))},
		"a static pod":                      {pod: newPod("a", owned("Node"))},
		"a mirror pod":                      {pod: newPod("a", annotated(corev1.MirrorPodAnnotationKey, "x"))},
		"on its way":                        {pod: newPod("a", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: start} })},
		"done":                              {pod: newPod("a", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })},
		"no agent":                          {pod: pod, noProfile: true, want: []string{noAgent}},
		"the host's network":                {pod: newPod("a", func(p *corev1.Pod) { p.Spec.HostNetwork = true }), want: []string{"Remove a: it uses the host's network"}},
		"not running":                       {pod: newPod("a", notRunning), want: []string{"Remove a: none of its containers runs"}},
		"being restored":                    {pod: newPod("a", notRunning, annotated(v1alpha1.AnnotationRestoreFrom, "x")), at: 10 * time.Second, want: []string{"Wait a for 50s"}},
		"being restored, half the time on":  {pod: newPod("a", notRunning, annotated(v1alpha1.AnnotationRestoreFrom, "x")), at: time.Minute, want: []string{"Remove a: none of its containers runs"}},
		"restored":                          {pod: newPod("a", annotated(v1alpha1.AnnotationRestoreFrom, "x")), want: begin},
		"a restore failed, starting cold":   {pod: newPod("a", notRunning, annotated(v1alpha1.AnnotationRestoreFrom, "x"), annotated(v1alpha1.AnnotationFellBack, "y")), want: []string{"Remove a: none of its containers runs"}},
		"joined, not begun":                 {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, -time.Second, "")}, at: 2 * time.Second, want: []string{"Wait a for 7s"}},
		"joined, its agent away":            {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, -time.Second, "")}, at: 9 * time.Second, want: []string{`GiveUp a 1: the agent of the node "node-1" did not answer within 10s`}},
		"joined, under way":                 {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, -time.Minute, v1alpha1.PhaseDumping)}, at: 2 * time.Second, want: []string{"Wait a for 0s"}},
		"joined, ready":                     {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, -time.Second, v1alpha1.PhaseReady)}, at: 2 * time.Second, want: []string{"Remove a after 1"}},
		"joined, about to thaw":             {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, -30*time.Second, v1alpha1.PhaseReady)}, want: []string{"Wait a for 11s"}},
		"joined, failed":                    {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, 0, v1alpha1.PhaseFailed)}, at: 2 * time.Second, want: []string{"Remove a after 1: criu: no"}},
		"joined, frozen for too long":       {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, 0, v1alpha1.PhaseReleased, released(v1alpha1.ReasonMaxFreeze))}, at: 2 * time.Second, want: []string{"Remove a after 1: criu: no"}},
		"ours, ready":                       {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, 0, v1alpha1.PhaseReady, removedBy(v1alpha1.RemovalDelete))}, at: 2 * time.Second, want: []string{"Wait a for 0s"}},
		"ours, failed":                      {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, 0, v1alpha1.PhaseFailed, removedBy(v1alpha1.RemovalDelete))}, at: 2 * time.Second, want: []string{"Wait a for 0s"}},
		"failed before the notice":          {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, -time.Minute, v1alpha1.PhaseFailed)}, want: []string{"Begin a 2 Termination Delete by 1m53s"}},
		"released, nobody ended it":         {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, 0, v1alpha1.PhaseReleased)}, at: 35 * time.Second, want: []string{"Begin a 2 Termination Delete by 1m53s"}},
		"released again and again":          {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 1, 0, v1alpha1.PhaseReleased), attempt(pod, 2, 30*time.Second, v1alpha1.PhaseReleased), attempt(pod, 3, time.Minute, v1alpha1.PhaseReleased)}, at: 90 * time.Second, want: []string{"Remove a after 3: the pod was not ended in time after any of 3 checkpoints"}},
		"the schedule's is no way to leave": {pod: pod, checkpoints: []v1alpha1.PodCheckpoint{attempt(pod, 4, -time.Minute, v1alpha1.PhaseReady, unfenced)}, want: []string{"Begin a 5 Termination Delete by 1m53s"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := evacuation.Case{
				Ending: ending(spot, false), Pods: []corev1.Pod{*tc.pod}, Profile: able(),
				Checkpoints: map[types.UID][]v1alpha1.PodCheckpoint{tc.pod.UID: tc.checkpoints},
			}
			if tc.noProfile {
				c.Profile = nil
			}
			var got []string
			for _, a := range evacuation.Plan(c, start.Add(tc.at)) {
				got = append(got, plain(a))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPlanOfSeveral has three pods of one owner.
func TestPlanOfSeveral(t *testing.T) {
	budget := func(allowed int32) policyv1.PodDisruptionBudget {
		return policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "carts"},
			Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "cart"}}},
			Status:     policyv1.PodDisruptionBudgetStatus{DisruptionsAllowed: allowed, CurrentHealthy: 3, DesiredHealthy: 3 - allowed},
		}
	}
	const deleted, evicted = " 1 Termination Delete by 1m53s", " 1 Termination Evict by 1m53s"
	for name, tc := range map[string]struct {
		ending  evacuation.Ending
		budgets []policyv1.PodDisruptionBudget
		rivals  int
		only    []types.UID
		want    []string
	}{
		"all at once, by value":           {ending: ending(spot, false), want: []string{"Begin b" + deleted, "Begin a" + deleted, "Begin c" + deleted}},
		"whatever a budget says":          {ending: ending(spot, false), budgets: []policyv1.PodDisruptionBudget{budget(0)}, want: []string{"Begin b" + deleted, "Begin a" + deleted, "Begin c" + deleted}},
		"voluntary":                       {ending: ending(karpenter, true), want: []string{"Begin b" + evicted, "Begin a" + evicted, "Begin c" + evicted}},
		"voluntary, a budget of none":     {ending: ending(karpenter, true), budgets: []policyv1.PodDisruptionBudget{budget(0)}, want: []string{"Wait b for 5s", "Wait a for 5s", "Wait c for 5s"}},
		"voluntary, a budget of two":      {ending: ending(karpenter, true), budgets: []policyv1.PodDisruptionBudget{budget(2)}, want: []string{"Begin b" + evicted, "Begin a" + evicted, "Wait c for 5s"}},
		"voluntary, and one moves":        {ending: ending(karpenter, true), budgets: []policyv1.PodDisruptionBudget{budget(2)}, rivals: 1, want: []string{"Begin b" + evicted, "Wait a for 5s", "Wait c for 5s"}},
		"voluntary, two budgets":          {ending: ending(karpenter, true), budgets: []policyv1.PodDisruptionBudget{budget(1), budget(1)}, want: []string{"Wait b for 5s", "Wait a for 5s", "Wait c for 5s"}},
		"some only, in that order":        {ending: ending(spot, false), only: []types.UID{"uid-c", "gone", "uid-a"}, want: []string{"Begin c" + deleted, "Begin a" + deleted}},
		"some only, that are not so here": {ending: ending(spot, false), only: []types.UID{"uid-x"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.ending.Only = tc.only
			c := evacuation.Case{
				Ending: tc.ending, Profile: able(), Budgets: tc.budgets, Rivals: map[types.UID]int{"rs": tc.rivals},
				Pods: []corev1.Pod{*newPod("a"), *newPod("b", annotated(v1alpha1.AnnotationValue, "500")), *newPod("c")},
			}
			var got []string
			for _, a := range evacuation.Plan(c, start) {
				got = append(got, plain(a))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if c.Rivals["rs"] != tc.rivals {
				t.Error("the case given was changed")
			}
		})
	}
}

func TestEndings(t *testing.T) {
	notice := func(cause string, length time.Duration, voluntary bool) string {
		return termination.Notice{Cause: cause, Since: start, Deadline: start.Add(length), Voluntary: voluntary}.Encode()
	}
	agent := func(cause v1alpha1.NoticeCause, length time.Duration) *v1alpha1.NodeNotice {
		return &v1alpha1.NodeNotice{
			Cause: cause, Since: metav1.NewMicroTime(start), Deadline: metav1.NewMicroTime(start.Add(length)), Pods: []types.UID{"p"},
		}
	}
	for name, tc := range map[string]struct {
		annotation string
		agent      *v1alpha1.NodeNotice
		want       []string
	}{
		"nothing":                           {},
		"a taint":                           {annotation: notice(spot, time.Minute, false), want: []string{spot + " termination Termination Delete [] lead 4s"}},
		"a voluntary one":                   {annotation: notice(karpenter, time.Minute, true), want: []string{karpenter + " termination Termination Evict [] lead 4s"}},
		"one that somebody else drains":     {annotation: termination.Notice{Cause: karpenter, Since: start, Deadline: start.Add(time.Minute), Voluntary: true, Drained: true}.Encode()},
		"a shutdown":                        {agent: agent(v1alpha1.NoticeShutdown, time.Minute), want: []string{"Shutdown termination Termination Delete [p] lead 0s"}},
		"memory":                            {agent: agent(v1alpha1.NoticeMemoryPressure, time.Minute), want: []string{"MemoryPressure eviction Eviction Delete [p] lead 0s"}},
		"a notice that is over":             {annotation: notice(spot, time.Second, false), agent: agent(v1alpha1.NoticeShutdown, time.Second)},
		"an agent's that can't be true":     {agent: agent(v1alpha1.NoticeShutdown, 24*time.Hour)},
		"the shutdown comes first":          {annotation: notice(spot, time.Minute, false), agent: agent(v1alpha1.NoticeShutdown, 30*time.Second), want: []string{"Shutdown termination Termination Delete [p] lead 0s", spot + " termination Termination Delete [] lead 4s"}},
		"what is certain goes before":       {annotation: notice(karpenter, 30*time.Second, true), agent: agent(v1alpha1.NoticeMemoryPressure, time.Minute), want: []string{"MemoryPressure eviction Eviction Delete [p] lead 0s", karpenter + " termination Termination Evict [] lead 2.5s"}},
		"somebody wrote a strange deadline": {annotation: notice(spot, 7*24*time.Hour, false)},
	} {
		t.Run(name, func(t *testing.T) {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
			if tc.annotation != "" {
				node.Annotations = map[string]string{v1alpha1.AnnotationNotice: tc.annotation}
			}
			profile := able()
			profile.Status.Notice = tc.agent
			var got []string
			for _, e := range evacuation.Endings(node, profile, start.Add(2*time.Second)) {
				got = append(got, fmt.Sprintf("%s %s %s %s %s lead %s", e.Cause, e.Trigger, e.Reason, e.Removal, e.Only, e.Lead))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("endings (-want +got):\n%s", diff)
			}
		})
	}
}
