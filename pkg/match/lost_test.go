// SPDX-License-Identifier: Apache-2.0

package match_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// onNode is a pod of a ReplicaSet that runs on the node n1.
func onNode(changes ...func(*corev1.Pod)) *corev1.Pod {
	return owned("ReplicaSet", append([]func(*corev1.Pod){func(p *corev1.Pod) {
		p.Spec.NodeName = "n1"
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "main", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		}}
	}}, changes...)...)
}

// terminating has the pod deleted at noon.
func terminating(p *corev1.Pod) {
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(noon.Add(30*time.Second))), ptr.To(int64(30))
}

// collected is what Kubernetes's collector writes on a pod whose node is gone.
func collected(p *corev1.Pod) {
	p.Status.Phase = corev1.PodFailed
	disrupted("DeletionByPodGC")(p)
}

func disrupted(reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, LastTransitionTime: metav1.NewTime(noon),
		})
	}
}

func ended(p *corev1.Pod) {
	p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
}

// node is n1 with a condition Ready and taints.
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

func TestLost(t *testing.T) {
	const out, away = corev1.TaintNodeOutOfService, corev1.TaintNodeUnreachable
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		node *corev1.Node
		why  string // empty: not lost
	}{
		"runs":                               {pod: onNode(), node: node(corev1.ConditionTrue)},
		"runs, node unreachable":             {pod: onNode(), node: node(corev1.ConditionUnknown, away)},
		"runs, node out of service":          {pod: onNode(), node: node(corev1.ConditionUnknown, out)},
		"runs, node object gone":             {pod: onNode()},
		"terminating":                        {pod: onNode(terminating), node: node(corev1.ConditionTrue)},
		"terminating, node unreachable":      {pod: onNode(terminating, disrupted("DeletionByTaintManager")), node: node(corev1.ConditionUnknown, away)},
		"terminating, node object gone":      {pod: onNode(terminating)},
		"terminating, node out of service":   {pod: onNode(terminating), node: node(corev1.ConditionUnknown, out, away), why: "out of service"},
		"the same, removed by the collector": {pod: onNode(terminating, phaseFailed), node: node(corev1.ConditionUnknown, out), why: "out of service"},
		"the same, ended before":             {pod: onNode(terminating, ended), node: node(corev1.ConditionUnknown, out)},
		"out of service, but ready":          {pod: onNode(terminating), node: node(corev1.ConditionTrue, out)},
		"out of service, but heard of":       {pod: onNode(terminating), node: node(corev1.ConditionFalse, out)},
		"collected":                          {pod: onNode(collected), why: "collected"},
		"collected, a new node of the name":  {pod: onNode(collected), node: node(corev1.ConditionTrue), why: "collected"},
		"collected while terminating":        {pod: onNode(terminating, collected), why: "collected"},
		"collected after its end":            {pod: onNode(collected, ended)},
		"about to be collected":              {pod: onNode(disrupted("DeletionByPodGC"))},
		"failed":                             {pod: onNode(phaseFailed)},
		"killed by the kubelet":              {pod: onNode(phaseFailed, disrupted(corev1.PodReasonTerminationByKubelet))},
	} {
		t.Run(name, func(t *testing.T) {
			lost, why := match.Lost(tc.pod, tc.node)
			if lost != (tc.why != "") || !strings.Contains(why, tc.why) {
				t.Errorf("Lost = %t, %q, want …%s…", lost, why, tc.why)
			}
		})
	}
}

func annotate(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations = map[string]string{key: value} }
}

func phaseFailed(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }

func TestSuspect(t *testing.T) {
	for name, tc := range map[string]struct {
		node *corev1.Node
		want bool
	}{
		"gone":           {want: true},
		"healthy":        {node: node(corev1.ConditionTrue)},
		"cordoned":       {node: node(corev1.ConditionTrue, corev1.TaintNodeUnschedulable)},
		"not ready":      {node: node(corev1.ConditionFalse, corev1.TaintNodeNotReady), want: true},
		"unreachable":    {node: node(corev1.ConditionUnknown, corev1.TaintNodeUnreachable), want: true},
		"out of service": {node: node(corev1.ConditionUnknown, corev1.TaintNodeOutOfService), want: true},
	} {
		if got := match.Suspect(tc.node); got != tc.want {
			t.Errorf("%s: Suspect = %t, want %t", name, got, tc.want)
		}
	}
}

func TestStandIn(t *testing.T) {
	// made is another pod of the source's ReplicaSet, made that long after noon.
	made := func(after time.Duration, changes ...func(*corev1.Pod)) *corev1.Pod {
		return onNode(append([]func(*corev1.Pod){func(p *corev1.Pod) {
			p.Name, p.UID, p.CreationTimestamp = "web-1", "p2", metav1.NewTime(noon.Add(after))
		}}, changes...)...)
	}
	inSlot := func(index string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.OwnerReferences[1].Kind = "Job"
			p.Annotations = map[string]string{"batch.kubernetes.io/job-completion-index": index}
		}
	}
	for name, tc := range map[string]struct {
		source, other *corev1.Pod
		want          types.UID
	}{
		"made before":              {source: onNode(terminating), other: made(-time.Second)},
		"made in the same second":  {source: onNode(terminating), other: made(0), want: "p2"},
		"made since":               {source: onNode(terminating), other: made(time.Hour), want: "p2"},
		"made since the failure":   {source: onNode(collected), other: made(time.Second), want: "p2"},
		"made before the failure":  {source: onNode(collected), other: made(-time.Second)},
		"has a checkpoint's":       {source: onNode(terminating), other: made(time.Second, annotate(v1alpha1.AnnotationRestoreFrom, "x"))},
		"of another owner":         {source: onNode(terminating), other: made(time.Second, func(p *corev1.Pod) { p.OwnerReferences[1].UID = "o2" })},
		"of another namespace":     {source: onNode(terminating), other: made(time.Second, func(p *corev1.Pod) { p.Namespace = "other" })},
		"of another index":         {source: onNode(terminating, inSlot("1")), other: made(time.Second, inSlot("2"))},
		"of the same index":        {source: onNode(terminating, inSlot("1")), other: made(time.Second, inSlot("1")), want: "p2"},
		"the source itself":        {source: onNode(terminating), other: onNode(terminating)},
		"nobody knows since when":  {source: onNode(), other: made(-time.Hour), want: "p2"},
		"a source without a owner": {source: onNode(terminating, func(p *corev1.Pod) { p.OwnerReferences = nil }), other: made(time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			var got types.UID
			if p := match.StandIn([]corev1.Pod{*tc.other}, tc.source); p != nil {
				got = p.UID
			}
			if got != tc.want {
				t.Errorf("StandIn = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAge(t *testing.T) {
	pc := &v1alpha1.PodCheckpoint{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(noon)}}
	if got := match.Age(pc, noon.Add(time.Minute)); got != time.Minute {
		t.Errorf("Age = %s by the creation, want 1m0s", got)
	}
	pc.Status.Enter(v1alpha1.PhaseFreezing, "", noon.Add(10*time.Second))
	pc.Status.Enter(v1alpha1.PhaseReady, "", noon.Add(20*time.Second))
	if got := match.Age(pc, noon.Add(70*time.Second+300*time.Millisecond)); got != time.Minute {
		t.Errorf("Age = %s by the freeze, want 1m0s", got)
	}
	if got := match.Age(pc, noon); got != 0 {
		t.Errorf("Age = %s by a clock that is late, want 0s", got)
	}
}

func TestOutliving(t *testing.T) {
	claim := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}
	readOnly := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c", ReadOnly: true}}
	mounted := func(ro bool) func(*corev1.Container) {
		return func(c *corev1.Container) {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/d", ReadOnly: ro}}
		}
	}
	for name, tc := range map[string]struct {
		volume  corev1.VolumeSource
		mount   func(*corev1.Container)
		sidecar bool
		want    string
	}{
		"claim":                      {volume: claim, mount: mounted(false), want: "data"},
		"claim of a sidecar":         {volume: claim, mount: mounted(false), sidecar: true, want: "data"},
		"claim, mounted read-only":   {volume: claim, mount: mounted(true)},
		"read-only claim":            {volume: readOnly, mount: mounted(false)},
		"claim that nothing mounts":  {volume: claim, mount: func(*corev1.Container) {}},
		"claim as a device":          {volume: claim, mount: func(c *corev1.Container) { c.VolumeDevices = []corev1.VolumeDevice{{Name: "data"}} }, want: "data"},
		"NFS":                        {volume: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}, mount: mounted(false), want: "data"},
		"of a kind not known yet":    {mount: mounted(false), want: "data"},
		"emptyDir":                   {volume: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, mount: mounted(false)},
		"secret":                     {volume: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}, mount: mounted(false)},
		"claim that goes with it":    {volume: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}, mount: mounted(false)},
		"image of a restored pod":    {volume: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{}}, mount: mounted(false)},
		"service account, projected": {volume: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}, mount: mounted(false)},
	} {
		t.Run(name, func(t *testing.T) {
			pod := onNode(func(p *corev1.Pod) {
				p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: tc.volume}}
				p.Spec.InitContainers = []corev1.Container{{Name: "side"}}
			})
			c := &pod.Spec.Containers[0]
			if tc.sidecar {
				c = &pod.Spec.InitContainers[0]
			}
			tc.mount(c)
			if got := match.Outliving(pod); got != tc.want {
				t.Errorf("Outliving = %q, want %q", got, tc.want)
			}
		})
	}
}
