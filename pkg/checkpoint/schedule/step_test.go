// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/schedule"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/termination"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// scheduled is a pod that runs since start and is to be saved every ten minutes.
func scheduled(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "cart", UID: "u1", Labels: map[string]string{v1alpha1.LabelEnabled: "true"},
			Annotations:     map[string]string{v1alpha1.AnnotationEnabled: "true", v1alpha1.AnnotationInterval: "10m"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "carts", UID: "o1", Controller: ptr.To(true)}},
		},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "main"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(start)}}},
		}},
	}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

// attempt is the pod's nth checkpoint on its schedule. It entered the phases a second apart, the last one at that time after start.
func attempt(n int, at time.Duration, phases ...v1alpha1.Phase) v1alpha1.PodCheckpoint {
	pc := match.NewCheckpoint(scheduled(), match.Request{Attempt: n, Reason: v1alpha1.ReasonSchedule})
	first := start.Add(at - time.Duration(len(phases)-1)*time.Second)
	pc.CreationTimestamp = metav1.NewTime(first)
	for i, p := range phases {
		pc.Status.Enter(p, "it "+string(p), first.Add(time.Duration(i)*time.Second))
	}
	return *pc
}

func fenced(pc v1alpha1.PodCheckpoint) v1alpha1.PodCheckpoint {
	pc.Spec.Fence, pc.Spec.Reason = true, v1alpha1.ReasonEviction
	return pc
}

func able(changes ...func(*v1alpha1.NodeProfile)) *v1alpha1.NodeProfile {
	p := &v1alpha1.NodeProfile{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	p.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionCanCheckpoint, Status: metav1.ConditionTrue, Message: "fine"}}
	for _, c := range changes {
		c(p)
	}
	return p
}

func node() *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}} }

// noticed is a node whose end, at that time after start, was announced two minutes before.
func noticed(at time.Duration) *corev1.Node {
	n := node()
	n.Annotations = map[string]string{v1alpha1.AnnotationNotice: termination.Notice{
		Cause: "x", Since: start.Add(at - 2*time.Minute), Deadline: start.Add(at),
	}.Encode()}
	return n
}

func claim(p *corev1.Pod) {
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"},
	}}}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/d"}}
}

func TestNext(t *testing.T) {
	type outcome struct {
		Attempt  int
		Deadline time.Duration // after now
		GiveWay  string
		Never    string
		Trouble  string
		After    time.Duration
	}
	const (
		ready, failed, expired = v1alpha1.PhaseReady, v1alpha1.PhaseFailed, v1alpha1.PhaseExpired
		freezing, exporting    = v1alpha1.PhaseFreezing, v1alpha1.PhaseExporting
	)
	cannot := func(p *v1alpha1.NodeProfile) {
		p.Status.Conditions[0].Status, p.Status.Conditions[0].Message = metav1.ConditionFalse, "CRIU is missing"
	}
	gaveWay := attempt(2, 12*time.Minute, freezing, failed)
	gaveWay.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "GaveWay"}}
	begin := outcome{Attempt: 2, Deadline: 10 * time.Minute}

	for name, tc := range map[string]struct {
		pod     *corev1.Pod
		made    []v1alpha1.PodCheckpoint
		past    schedule.Past
		node    *corev1.Node
		profile *v1alpha1.NodeProfile
		age     time.Duration
		want    outcome
	}{
		"no wish":        {pod: scheduled(func(p *corev1.Pod) { delete(p.Annotations, v1alpha1.AnnotationInterval) }), age: time.Hour},
		"opted out":      {pod: scheduled(func(p *corev1.Pod) { p.Annotations[v1alpha1.AnnotationEnabled] = "false" }), age: time.Hour},
		"not running":    {pod: scheduled(func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }), age: time.Hour},
		"terminating":    {pod: scheduled(func(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.NewTime(start)) }), age: time.Hour},
		"nothing runs":   {pod: scheduled(func(p *corev1.Pod) { p.Status.ContainerStatuses[0].State.Running = nil }), age: time.Hour},
		"no controller":  {pod: scheduled(func(p *corev1.Pod) { p.OwnerReferences = nil }), age: time.Hour, want: outcome{Never: "no controller"}},
		"volume remains": {pod: scheduled(claim), age: time.Hour, want: outcome{Never: `volume "data" outlives it`}},

		"long since due": {age: time.Hour, want: outcome{Attempt: 1, Deadline: 10 * time.Minute}},
		"saved":          {made: []v1alpha1.PodCheckpoint{attempt(1, 10*time.Minute, freezing, ready)}, age: 15 * time.Minute, want: outcome{After: 5 * time.Minute}},
		"saved, due":     {made: []v1alpha1.PodCheckpoint{attempt(1, 10*time.Minute, freezing, ready)}, age: 20 * time.Minute, want: begin},
		"saved, long push": {
			made: []v1alpha1.PodCheckpoint{attempt(1, 10*time.Minute, freezing, exporting, ready)}, age: 19 * time.Minute, want: outcome{After: time.Minute},
		},
		"saved, superseded meanwhile": {
			made: []v1alpha1.PodCheckpoint{attempt(1, 15*time.Minute, ready, expired)}, age: 20 * time.Minute, want: outcome{After: 4*time.Minute + 59*time.Second},
		},
		"by the latest": {
			made: []v1alpha1.PodCheckpoint{attempt(10, 30*time.Minute, ready), attempt(9, 20*time.Minute, ready)}, age: 39 * time.Minute,
			want: outcome{After: time.Minute},
		},
		"a short interval": {
			pod: scheduled(func(p *corev1.Pod) { p.Annotations[v1alpha1.AnnotationInterval] = "1m" }), age: time.Hour,
			want: outcome{Attempt: 1, Deadline: 2 * time.Minute},
		},
		"under way":      {made: []v1alpha1.PodCheckpoint{attempt(1, 10*time.Minute, freezing)}, age: time.Hour},
		"not taken up":   {made: []v1alpha1.PodCheckpoint{attempt(1, 10*time.Minute)}, age: time.Hour},
		"by hand":        {made: []v1alpha1.PodCheckpoint{manual(attempt(1, 10*time.Minute, freezing))}, age: time.Hour},
		"evicted":        {made: []v1alpha1.PodCheckpoint{fenced(attempt(1, 10*time.Minute, freezing))}, age: time.Hour},
		"evicted, saved": {made: []v1alpha1.PodCheckpoint{fenced(attempt(1, 10*time.Minute, ready))}, age: time.Hour},
		"evicted, released": {
			made: []v1alpha1.PodCheckpoint{fenced(attempt(1, 10*time.Minute, ready, v1alpha1.PhaseReleased))}, age: time.Hour, want: begin,
		},
		"evicted meanwhile": {
			made: []v1alpha1.PodCheckpoint{attempt(1, 10*time.Minute, freezing), fenced(attempt(2, 10*time.Minute))}, age: 10 * time.Minute,
			want: outcome{GiveWay: match.Name(scheduled(), 1)},
		},
		"gave way": {
			made: []v1alpha1.PodCheckpoint{attempt(1, 10*time.Minute, ready), gaveWay}, age: 20 * time.Minute,
			want: outcome{Attempt: 3, Deadline: 10 * time.Minute},
		},

		"failed": {
			made: []v1alpha1.PodCheckpoint{attempt(1, 10*time.Minute, freezing, failed)}, age: 20 * time.Minute,
			want: outcome{Trouble: "it Failed", After: 10 * time.Minute},
		},
		"stood still for too long": {
			made: []v1alpha1.PodCheckpoint{attempt(1, 10*time.Minute, freezing, v1alpha1.PhaseReleased)}, age: 20 * time.Minute,
			want: outcome{Trouble: "it Released", After: 10 * time.Minute},
		},
		"failed, due": {
			made: []v1alpha1.PodCheckpoint{attempt(1, 10*time.Minute, freezing, failed)}, age: 30 * time.Minute,
			want: outcome{Trouble: "it Failed", Attempt: 2, Deadline: 10 * time.Minute},
		},
		"failed, and then saved": {
			made: []v1alpha1.PodCheckpoint{attempt(1, time.Minute, failed), attempt(2, 10*time.Minute, ready)}, age: 15 * time.Minute,
			want: outcome{After: 5 * time.Minute},
		},
		"failed twice since": {
			made: []v1alpha1.PodCheckpoint{attempt(1, time.Minute, ready), attempt(2, 2*time.Minute, failed), attempt(3, 10*time.Minute, failed)},
			age:  30 * time.Minute, want: outcome{Trouble: "it Failed", After: 20 * time.Minute},
		},
		"failed for ever": {
			made: []v1alpha1.PodCheckpoint{
				attempt(1, 0, failed), attempt(2, 0, failed), attempt(3, 0, failed), attempt(4, 0, failed), attempt(5, 10*time.Minute, failed),
			},
			age: 80 * time.Minute, want: outcome{Trouble: "it Failed", After: 10 * time.Minute},
		},

		"failed, and deleted since": {
			past: schedule.Past{Attempt: 4, End: start.Add(10 * time.Minute), Failures: 2, Why: "criu"}, age: 20 * time.Minute,
			want: outcome{Trouble: "criu", After: 30 * time.Minute},
		},
		"failed once more, those before deleted": {
			past: schedule.Past{Attempt: 4, End: start, Failures: 1, Why: "criu"}, made: []v1alpha1.PodCheckpoint{attempt(5, 10*time.Minute, failed)},
			age: 20 * time.Minute, want: outcome{Trouble: "it Failed", After: 30 * time.Minute},
		},
		"failed, known, and still there": {
			past: schedule.Past{Attempt: 5, End: start.Add(10 * time.Minute), Failures: 1, Why: "it Failed"},
			made: []v1alpha1.PodCheckpoint{attempt(5, 10*time.Minute, failed)}, age: 30 * time.Minute,
			want: outcome{Trouble: "it Failed", Attempt: 6, Deadline: 10 * time.Minute},
		},
		"saved since it failed": {
			past: schedule.Past{Attempt: 4, End: start, Failures: 2, Why: "criu"}, made: []v1alpha1.PodCheckpoint{attempt(5, 10*time.Minute, ready)},
			age: 15 * time.Minute, want: outcome{After: 5 * time.Minute},
		},
		"a number is given once": {
			past: schedule.Past{Attempt: 7, End: start}, age: 10 * time.Minute, want: outcome{Attempt: 8, Deadline: 10 * time.Minute},
		},

		"node ends":                  {node: noticed(62 * time.Minute), age: time.Hour, want: outcome{After: 2 * time.Minute}},
		"node outlived its notice":   {node: noticed(59 * time.Minute), age: time.Hour, want: outcome{Attempt: 1, Deadline: 10 * time.Minute}},
		"node shuts down":            {profile: able(func(p *v1alpha1.NodeProfile) { p.Status.Notice = &v1alpha1.NodeNotice{} }), age: time.Hour},
		"node can't":                 {profile: able(cannot), age: time.Hour, want: outcome{Trouble: "CRIU is missing"}},
		"node has not told":          {profile: &v1alpha1.NodeProfile{}, age: time.Hour, want: outcome{Trouble: "not told"}},
		"node can't, but is not due": {profile: able(cannot), made: []v1alpha1.PodCheckpoint{attempt(1, 59*time.Minute, ready)}, age: time.Hour, want: outcome{After: 9 * time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			c := schedule.Case{Pod: tc.pod, Checkpoints: tc.made, Past: tc.past, Node: tc.node, Profile: tc.profile, Now: start.Add(tc.age)}
			if c.Pod == nil {
				c.Pod = scheduled()
			}
			if c.Profile == nil {
				c.Profile = able()
			}
			step := schedule.Next(c)
			got := outcome{Attempt: step.Attempt, Never: step.Never, Trouble: step.Trouble, After: step.After}
			if step.GiveWay != nil {
				got.GiveWay = step.GiveWay.Name
			}
			if !step.Deadline.IsZero() {
				got.Deadline = step.Deadline.Sub(c.Now)
			}
			opt := cmp.FilterPath(func(p cmp.Path) bool { f := p.String(); return f == "Never" || f == "Trouble" }, cmp.Comparer(contain))
			if diff := cmp.Diff(tc.want, got, opt); diff != "" {
				t.Errorf("step (-want +got):\n%s", diff)
			}
		})
	}
}

func manual(pc v1alpha1.PodCheckpoint) v1alpha1.PodCheckpoint {
	pc.Spec.Reason = v1alpha1.ReasonManual
	return pc
}

func contain(a, b string) bool {
	return (a == "") == (b == "") && (strings.Contains(a, b) || strings.Contains(b, a))
}

func TestNextWithoutAgent(t *testing.T) {
	step := schedule.Next(schedule.Case{Pod: scheduled(), Now: start.Add(time.Hour)})
	if step.Attempt != 0 || !strings.Contains(step.Trouble, "no Cryopod agent") {
		t.Errorf("step = %+v, want to wait for an agent", step)
	}
}

// TestFirstIsSpread shows that pods that were made at the same moment are not saved at the same moment, and none after its interval.
func TestFirstIsSpread(t *testing.T) {
	const pods, slots = 1000, 10
	var hits [slots]int
	for i := range pods {
		pod := scheduled(func(p *corev1.Pod) { p.UID = types.UID(fmt.Sprintf("0b0c1d2e-%04d", i)) })
		after := schedule.Next(schedule.Case{Pod: pod, Profile: able(), Now: start}).After
		if again := schedule.Next(schedule.Case{Pod: pod, Profile: able(), Now: start}).After; again != after {
			t.Fatalf("pod %d is due after %s, and then after %s", i, after, again)
		}
		if after < 5*time.Minute || after > 10*time.Minute {
			t.Fatalf("pod %d is due after %s, want the second half of 10m", i, after)
		}
		hits[min(slots-1, int((after-5*time.Minute)/(30*time.Second)))]++
	}
	for i, n := range hits {
		if n < pods/slots/2 || n > pods/slots*3/2 {
			t.Errorf("%d of %d pods are due in slot %d of %d", n, pods, i, slots)
		}
	}
}
