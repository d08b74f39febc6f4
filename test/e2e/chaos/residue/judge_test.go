// SPDX-License-Identifier: Apache-2.0

package residue_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/chaos/residue"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

const tag = "registry.local:5000/checkpoints/shop:web-1.main"

// checkpoint is of pod web-0 of namespace shop, whose UID is "web", made an hour ago, and has been in its phase for so long.
func checkpoint(phase v1alpha1.Phase, since time.Duration, change ...func(*v1alpha1.PodCheckpoint)) v1alpha1.PodCheckpoint {
	pc := v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "one", CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "web-0", PodUID: "web", MaxFreezeSeconds: 60, Deadline: &metav1.Time{Time: now.Add(time.Minute)},
		},
	}
	pc.Status.Enter(phase, "", now.Add(-since))
	for _, c := range change {
		c(&pc)
	}
	return pc
}

func pod(name string, uid types.UID, change ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: uid}}
	p.Spec.NodeName = "node-1"
	p.Spec.Containers = []corev1.Container{{Name: "main", Image: "web:1"}}
	for _, c := range change {
		c(&p)
	}
	return p
}

func ago(d time.Duration) time.Time { return now.Add(-d) }

func TestJudge(t *testing.T) {
	frozen := residue.Task{ID: "c1", PodUID: "web", Namespace: "shop", Pod: "web-0", Container: "main", Paused: true}
	runs := frozen
	runs.Paused = false
	archive := residue.File{Name: "checkpoint-web-0_shop-main-2026-05-04T12:00:00Z.tar", Changed: now}
	entry := fence.Entry{Checkpoint: types.NamespacedName{Namespace: "shop", Name: "web-1"}, CheckpointUID: "one", PodUID: "web"}
	node := func(n residue.Node) []residue.Node {
		n.Name = "node-1"
		return []residue.Node{n}
	}
	saved := func(pcs ...v1alpha1.PodCheckpoint) []v1alpha1.PodCheckpoint { return pcs }
	images := func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionImagesRemoved, Status: metav1.ConditionTrue}}
	}
	cases := map[string]struct {
		facts residue.Facts
		want  string // the kind of the one leftover; empty: none
	}{
		"nothing": {},
		"an archive that is being made": {facts: residue.Facts{
			Nodes: node(residue.Node{Archives: []residue.File{archive}}), PodCheckpoints: saved(checkpoint(v1alpha1.PhaseExporting, 0))}},
		"an archive that was pushed": {want: residue.KindArchive, facts: residue.Facts{
			Nodes: node(residue.Node{Archives: []residue.File{archive}}), PodCheckpoints: saved(checkpoint(v1alpha1.PhaseReady, 0))}},
		"an archive of nobody": {want: residue.KindArchive, facts: residue.Facts{
			Nodes: node(residue.Node{Archives: []residue.File{archive}})}},
		"the agent's files": {facts: residue.Facts{Nodes: node(residue.Node{State: []residue.File{
			{Name: "lock", Changed: ago(time.Hour)}, {Name: "frozen.json", Changed: ago(time.Hour)}, {Name: "selftest-checkpoint.tar", Changed: now}}})}},
		"the file of a self-test that was broken off": {want: residue.KindFile, facts: residue.Facts{
			Nodes: node(residue.Node{State: []residue.File{{Name: "selftest-checkpoint.tar", Changed: ago(time.Hour)}}})}},
		"an entry of a claimed checkpoint": {facts: residue.Facts{Pods: []corev1.Pod{pod("web-1", "new", func(p *corev1.Pod) {
			p.Annotations = map[string]string{v1alpha1.AnnotationClaim: "x"}
		})}, Nodes: node(residue.Node{Ledger: []fence.Entry{entry}}), PodCheckpoints: saved(checkpoint(v1alpha1.PhaseClaimed, time.Hour,
			func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim = &v1alpha1.Claim{ID: "x"} }))}},
		"an entry of a checkpoint that is over": {want: residue.KindEntry, facts: residue.Facts{
			Nodes: node(residue.Node{Ledger: []fence.Entry{entry}}), PodCheckpoints: saved(checkpoint(v1alpha1.PhaseReleased, 0))}},
		"an entry of a namesake": {want: residue.KindEntry, facts: residue.Facts{
			Nodes: node(residue.Node{Ledger: []fence.Entry{entry}}), PodCheckpoints: saved(checkpoint(v1alpha1.PhaseReady, 0,
				func(pc *v1alpha1.PodCheckpoint) { pc.UID = "two" }))}},
		"a container that runs": {facts: residue.Facts{
			Pods: []corev1.Pod{pod("web-0", "web")}, Nodes: node(residue.Node{Tasks: []residue.Task{runs}})}},
		"a frozen container of a Ready checkpoint": {facts: residue.Facts{Pods: []corev1.Pod{pod("web-0", "web")},
			Nodes: node(residue.Node{Tasks: []residue.Task{frozen}}), PodCheckpoints: saved(checkpoint(v1alpha1.PhaseReady, 0))}},
		"a frozen container of a released one": {want: residue.KindFrozen, facts: residue.Facts{Pods: []corev1.Pod{pod("web-0", "web")},
			Nodes: node(residue.Node{Tasks: []residue.Task{frozen}}), PodCheckpoints: saved(checkpoint(v1alpha1.PhaseReleased, 0))}},
		"a process of a pod that is gone": {want: residue.KindProcess, facts: residue.Facts{
			Nodes: node(residue.Node{Tasks: []residue.Task{frozen}}), PodCheckpoints: saved(checkpoint(v1alpha1.PhaseReady, 0))}},
		"a checkpoint image that a pod names": {facts: residue.Facts{Pods: []corev1.Pod{pod("web-1", "new", func(p *corev1.Pod) {
			p.Spec.Containers[0].Image = tag
		})}, Nodes: node(residue.Node{Images: []residue.Image{{Name: tag, Checkpoint: true}, {Name: "sha256:aa", Checkpoint: true}}})}},
		"a checkpoint image that no pod names": {want: residue.KindImage, facts: residue.Facts{Pods: []corev1.Pod{pod("web-1", "new")},
			Nodes: node(residue.Node{Images: []residue.Image{{Name: tag, Checkpoint: true}}})}},
		"its name for the base image": {facts: residue.Facts{Nodes: node(residue.Node{Images: []residue.Image{{Name: tag}, {Name: "web:1"}}})}},
		"the image of a dump under way": {facts: residue.Facts{
			Nodes: node(residue.Node{Images: []residue.Image{{Name: "containerd.io/checkpoint/c1:now", Created: now}}})}},
		"the image of a dump that was broken off": {want: residue.KindImage, facts: residue.Facts{
			Nodes: node(residue.Node{Images: []residue.Image{{Name: "containerd.io/checkpoint/c1:then", Created: ago(time.Hour)}}})}},
		"a lease that ends": {facts: residue.Facts{
			Nodes: node(residue.Node{Leases: []residue.Lease{{ID: "1", Created: ago(time.Hour), Expires: true}}})}},
		"the lease of a sandbox": {facts: residue.Facts{
			Nodes: node(residue.Node{Containers: []string{"1"}, Leases: []residue.Lease{{ID: "1", Created: ago(time.Hour)}}})}},
		"a lease for ever": {want: residue.KindLease, facts: residue.Facts{
			Nodes: node(residue.Node{Leases: []residue.Lease{{ID: "1", Created: ago(time.Hour)}}})}},
		"mounts in use": {facts: residue.Facts{Pods: []corev1.Pod{pod("web-0", "web")}, Nodes: node(residue.Node{Containers: []string{"c1"},
			Mounts: []string{"/", "/var/lib/kubelet/pods/web/volumes/x", "/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1/rootfs"}})}},
		"the root of a container that is gone": {want: residue.KindMount, facts: residue.Facts{Nodes: node(residue.Node{
			Mounts: []string{"/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1/rootfs"}})}},
		"the volume of a pod that is gone": {want: residue.KindMount, facts: residue.Facts{Nodes: node(residue.Node{
			Mounts: []string{"/var/lib/kubelet/pods/web/volumes/x"}})}},
		"a temporary mount": {want: residue.KindMount, facts: residue.Facts{Nodes: node(residue.Node{
			Mounts: []string{"/var/lib/containerd/tmpmounts/containerd-mount1"}})}},
		"what retention keeps": {facts: residue.Facts{PodCheckpoints: saved(checkpoint(v1alpha1.PhaseRestored, 50*time.Minute, images))}},
		"what it has forgotten": {want: residue.KindCheckpoint, facts: residue.Facts{
			PodCheckpoints: saved(checkpoint(v1alpha1.PhaseRestored, 2*time.Hour, images))}},
		"Ready for too long": {want: residue.KindCheckpoint, facts: residue.Facts{
			PodCheckpoints: saved(checkpoint(v1alpha1.PhaseReady, 12*time.Minute))}},
		"Claimed by nobody": {want: residue.KindCheckpoint, facts: residue.Facts{PodCheckpoints: saved(checkpoint(v1alpha1.PhaseClaimed, time.Hour,
			func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim = &v1alpha1.Claim{ID: "x"} }))}},
		"beyond its deadline": {want: residue.KindCheckpoint, facts: residue.Facts{PodCheckpoints: saved(checkpoint(v1alpha1.PhaseDumping, 0,
			func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Deadline = &metav1.Time{Time: ago(3 * time.Minute)} }))}},
		"a pod that does not go": {want: residue.KindPod, facts: residue.Facts{Pods: []corev1.Pod{pod("web-0", "web", func(p *corev1.Pod) {
			p.DeletionTimestamp = &metav1.Time{Time: ago(time.Hour)}
		})}}},
		"profiles of nodes": {facts: residue.Facts{Profiles: []string{"node-1"}, Members: []string{"node-1"}}},
		"a profile of none": {want: residue.KindProfile, facts: residue.Facts{Profiles: []string{"node-2"}, Members: []string{"node-1"}}},
		"leases":            {facts: residue.Facts{Leases: []string{"cryopod-webhook", "cryopod-scheduler"}}},
		"another's lease":   {want: residue.KindLease, facts: residue.Facts{Leases: []string{"cryopod-agent"}}},
		"an image of a Ready checkpoint": {facts: residue.Facts{
			Tags: []residue.Tag{{Namespace: "shop", Tag: "web-1.main"}}, PodCheckpoints: saved(checkpoint(v1alpha1.PhaseReady, 0))}},
		"an image of one just over": {facts: residue.Facts{
			Tags: []residue.Tag{{Namespace: "shop", Tag: "web-1.main"}}, PodCheckpoints: saved(checkpoint(v1alpha1.PhaseFailed, 30*time.Second))}},
		"an image of one long over": {want: residue.KindImage, facts: residue.Facts{
			Tags: []residue.Tag{{Namespace: "shop", Tag: "web-1.main"}}, PodCheckpoints: saved(checkpoint(v1alpha1.PhaseFailed, 30*time.Minute))}},
		"an image that is said to be gone": {want: residue.KindImage, facts: residue.Facts{
			Tags: []residue.Tag{{Namespace: "shop", Tag: "web-1.main"}}, PodCheckpoints: saved(checkpoint(v1alpha1.PhaseFailed, 0, images))}},
		"an image whose namespace was deleted": {facts: residue.Facts{
			Tags: []residue.Tag{{Namespace: "shop", Tag: "web-1.main", Created: ago(time.Hour)}}}},
		"one that no search has found": {want: residue.KindImage, facts: residue.Facts{
			Tags: []residue.Tag{{Namespace: "shop", Tag: "web-1.main", Created: ago(3 * time.Hour)}}}},
		"an image by another name": {want: residue.KindImage, facts: residue.Facts{
			Tags: []residue.Tag{{Namespace: "shop", Tag: "latest", Created: now}}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			c.facts.Now = now
			found := residue.Judge(&c.facts)
			var want, got []string
			if c.want != "" {
				want = []string{c.want}
			}
			for _, l := range found {
				got = append(got, l.Kind)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("leftovers (-want +got):\n%s%v", diff, found)
			}
		})
	}
}
