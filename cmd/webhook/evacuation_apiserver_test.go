// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/termination"
	"github.com/cryopod/cryopod/test/apiserver"
)

const (
	spotTaint       = "aws-node-termination-handler/spot-itn"
	autoscalerTaint = "ToBeDeletedByClusterAutoscaler"
)

// TestEvacuation has nodes end while no webhook answers: everything is up to the leader, with the permissions that the manifests give it.
// The test is the agent of all nodes.
func TestEvacuation(t *testing.T) {
	t.Parallel()
	c := start(t)
	leader := c.run(t, "--on-cordon")
	leader.awaitReady(t)
	t.Run("nodes end", func(t *testing.T) {
		inParallel(t, map[string]func(*testing.T){
			"a spot instance is reclaimed":                    c.testSpot,
			"the taint goes again":                            c.testCalledOff,
			"an autoscaler drains, and a budget is respected": c.testVoluntary,
			"a cordon":            c.testCordon,
			"what its agent sees": c.testAgentsNotice,
		})
	})
	t.Run("the leader goes in the middle of it", func(t *testing.T) { c.testNextLeader(t, leader) })
}

// testNextLeader has nobody lead while the pod becomes Ready.
func (c *cluster) testNextLeader(t *testing.T, leader *replica) {
	c.node(t, "led")
	pod := c.running(t, "led", "led")
	c.taint(t, "led", spotTaint)
	c.awaitAttempt(t, pod, 1)
	c.agent(t, pod, 1, v1alpha1.PhaseDumping, "")
	if err := leader.stop(); err != nil {
		t.Fatal(err)
	}
	c.agent(t, pod, 1, v1alpha1.PhaseReady, "")
	c.run(t).awaitReady(t)
	c.awaitGoing(t, pod, 1, "DeletionByCryopod")
	c.awaitWords(t, "TerminationNoticeOver", "led", "1 pod(s) were saved and 0 went")
	if err := c.admin.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: match.Name(pod, 2)}, &v1alpha1.PodCheckpoint{}); err == nil {
		t.Error("the next leader began anew")
	}
}

func (c *cluster) testSpot(t *testing.T) {
	c.node(t, "spot")
	saved, late, lost, plain := c.running(t, "saved", "spot"), c.running(t, "late", "spot"), c.running(t, "lost", "spot"), c.running(t, "plain", "spot", notOptedIn)
	hostNetwork := c.running(t, "hostnet", "spot", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	c.taint(t, "spot", spotTaint)

	notice := c.awaitNotice(t, "spot", spotTaint)
	if left := time.Until(notice.Deadline); left < 100*time.Second || left > 2*time.Minute || notice.Voluntary {
		t.Errorf("notice %+v", notice)
	}
	want := notice.Deadline.Add(-7 * time.Second).Truncate(time.Second)
	for _, pod := range []*corev1.Pod{saved, late, lost} {
		pc := c.awaitAttempt(t, pod, 1)
		if !pc.Spec.Deadline.Time.Equal(want) || !pc.Spec.Fence || pc.Spec.Removal != v1alpha1.RemovalDelete || pc.Spec.Reason != v1alpha1.ReasonTermination {
			t.Errorf("spec %+v, want the deadline %s", pc.Spec, want)
		}
	}
	c.awaitEvents(t, "TerminationNotice", "spot")
	c.awaitGoing(t, hostNetwork, 30, "DeletionByCryopod")
	c.awaitWords(t, "EvictedCold", hostNetwork.Name, "it uses the host's network")

	c.agent(t, saved, 1, v1alpha1.PhaseReady, "")
	c.awaitGoing(t, saved, 1, "DeletionByCryopod")
	c.awaitEvents(t, "SavedAndRemoved", saved.Name)

	c.agent(t, late, 1, v1alpha1.PhaseFailed, "needs 41 s, 12 s are left")
	c.awaitGoing(t, late, 30, "DeletionByCryopod")
	for _, on := range []string{late.Name, match.Name(late, 1), "owner-of-late"} {
		c.awaitWords(t, "EvictedCold", on, "needs 41 s, 12 s are left")
	}

	comes := c.running(t, "comes", "spot", notOptedIn)
	optedIn := comes.DeepCopy()
	optedIn.Labels, optedIn.Annotations = saved.Labels, saved.Annotations
	if err := c.admin.Patch(t.Context(), optedIn, client.MergeFrom(comes)); err != nil {
		t.Fatal(err)
	}
	c.awaitAttempt(t, comes, 1)
	c.agent(t, comes, 1, v1alpha1.PhaseDumping, "")
	// Nobody writes a phase for this one.
	c.awaitGoing(t, lost, 30, "DeletionByCryopod")
	c.awaitWords(t, "EvictedCold", lost.Name, "did not answer within 10s")
	c.agent(t, comes, 1, v1alpha1.PhaseReady, "")
	c.awaitGoing(t, comes, 1, "DeletionByCryopod")
	c.awaitWords(t, "TerminationNoticeOver", "spot", "2 pod(s) were saved and")

	var pod corev1.Pod
	if err := c.admin.Get(t.Context(), client.ObjectKeyFromObject(plain), &pod); err != nil || pod.DeletionTimestamp != nil || len(pod.Status.Conditions) != 1 {
		t.Errorf("the pod that is not opted in: %v, %+v", err, pod.ObjectMeta)
	}
}

func (c *cluster) testCalledOff(t *testing.T) {
	c.node(t, "spared")
	pod := c.running(t, "spared", "spared")
	c.taint(t, "spared", spotTaint)
	c.awaitAttempt(t, pod, 1)
	c.taint(t, "spared")
	apiserver.Await(t, "no notice", func(ctx context.Context) (string, bool, error) {
		node := &corev1.Node{}
		err := c.admin.Get(ctx, client.ObjectKey{Name: "spared"}, node)
		text, there := node.Annotations[v1alpha1.AnnotationNotice]
		return text, !there, err
	})
	c.agent(t, pod, 1, v1alpha1.PhaseReady, "")
	other := c.running(t, "newcomer", "spared")
	// What would have happened takes milliseconds.
	time.Sleep(2 * time.Second)
	for _, p := range []*corev1.Pod{pod, other} {
		if err := c.admin.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil || p.DeletionTimestamp != nil {
			t.Errorf("pod %q: %v, deleted at %v", p.Name, err, p.DeletionTimestamp)
		}
	}
	if err := c.admin.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: match.Name(other, 1)}, &v1alpha1.PodCheckpoint{}); err == nil {
		t.Error("something began after the taint had gone")
	}
}

func (c *cluster) testVoluntary(t *testing.T) {
	c.node(t, "autoscaled")
	pod := c.running(t, "budgeted", "autoscaled")
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "budget"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "budgeted"}}},
	}
	c.create(t, budget)
	allow := func(n int32) {
		budget.Status = policyv1.PodDisruptionBudgetStatus{
			ObservedGeneration: budget.Generation, DisruptionsAllowed: n, CurrentHealthy: 1 + n, DesiredHealthy: 1, ExpectedPods: 1,
		}
		if err := c.admin.Status().Update(t.Context(), budget); err != nil {
			t.Fatal(err)
		}
	}
	allow(0)
	c.taint(t, "autoscaled", autoscalerTaint)
	if n := c.awaitNotice(t, "autoscaled", autoscalerTaint); !n.Voluntary {
		t.Errorf("notice %+v, want a voluntary one", n)
	}
	c.awaitEvents(t, "TerminationNotice", "autoscaled")
	key := client.ObjectKey{Namespace: "default", Name: match.Name(pod, 1)}
	if err := c.admin.Get(t.Context(), key, &v1alpha1.PodCheckpoint{}); err == nil {
		t.Error("the pod is being saved although its budget keeps it")
	}
	allow(1)
	if pc := c.awaitAttempt(t, pod, 1); pc.Spec.Removal != v1alpha1.RemovalEvict {
		t.Errorf("removal %q", pc.Spec.Removal)
	}
	// The budget changes its mind while the pod stands still.
	allow(0)
	c.agent(t, pod, 1, v1alpha1.PhaseReady, "")
	time.Sleep(1500 * time.Millisecond)
	if err := c.admin.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil || pod.DeletionTimestamp != nil {
		t.Fatalf("against its budget: %v, deleted at %v", err, pod.DeletionTimestamp)
	}
	if err := c.admin.Get(t.Context(), client.ObjectKeyFromObject(budget), budget); err != nil {
		t.Fatal(err)
	}
	allow(1)
	c.awaitGoing(t, pod, 1, "EvictionByEvictionAPI")
}

func (c *cluster) testCordon(t *testing.T) {
	c.node(t, "cordoned")
	pod := c.running(t, "cordoned", "cordoned")
	c.kubectl(t, "cordon", "cordoned")
	c.awaitNotice(t, "cordoned", corev1.TaintNodeUnschedulable)
	c.awaitAttempt(t, pod, 1)
	c.agent(t, pod, 1, v1alpha1.PhaseReady, "")
	c.awaitGoing(t, pod, 1, "EvictionByEvictionAPI")
}

// testAgentsNotice has an agent whose node's memory runs out name one pod, for which an eviction is under way already.
func (c *cluster) testAgentsNotice(t *testing.T) {
	profile := c.node(t, "pressed")
	stays, goes := c.running(t, "stays", "pressed"), c.running(t, "goes", "pressed")
	held := match.NewCheckpoint(goes, match.Request{Attempt: 1, Reason: v1alpha1.ReasonEviction, Deadline: time.Now().Add(time.Minute), Fence: true})
	c.create(t, held)
	c.agent(t, goes, 1, v1alpha1.PhaseDumping, "")
	profile.Status.Notice = &v1alpha1.NodeNotice{
		Cause: v1alpha1.NoticeMemoryPressure, Since: metav1.NowMicro(), Deadline: metav1.NewMicroTime(time.Now().Add(time.Minute)),
	}
	profile.Status.Notice.Pods = append(profile.Status.Notice.Pods, goes.UID)
	if err := c.admin.Update(t.Context(), profile); err != nil {
		t.Fatal(err)
	}
	c.awaitEvents(t, "TerminationNotice", "pressed")
	c.agent(t, goes, 1, v1alpha1.PhaseReady, "")
	c.awaitGoing(t, goes, 1, "DeletionByCryopod")
	if err := c.admin.Get(t.Context(), client.ObjectKeyFromObject(stays), stays); err != nil || stays.DeletionTimestamp != nil {
		t.Errorf("the other pod: %v, deleted at %v", err, stays.DeletionTimestamp)
	}
}

// node makes a node whose agent can save pods.
func (c *cluster) node(t *testing.T, name string) *v1alpha1.NodeProfile {
	t.Helper()
	c.create(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	profile := &v1alpha1.NodeProfile{ObjectMeta: metav1.ObjectMeta{Name: name}}
	meta.SetStatusCondition(&profile.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionCanCheckpoint, Status: metav1.ConditionTrue, Reason: "Test"})
	c.create(t, profile)
	return profile
}

// taint makes these the node's only taints.
func (c *cluster) taint(t *testing.T, node string, keys ...string) {
	t.Helper()
	n := &corev1.Node{}
	if err := c.admin.Get(t.Context(), client.ObjectKey{Name: node}, n); err != nil {
		t.Fatal(err)
	}
	before := n.DeepCopy()
	n.Spec.Taints = nil
	for _, key := range keys {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
	}
	if err := c.admin.Patch(t.Context(), n, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

func notOptedIn(p *corev1.Pod) { p.Labels, p.Annotations = nil, nil }

// running makes a pod of a ReplicaSet that runs on the node, as the webhook and a kubelet would have it.
func (c *cluster) running(t *testing.T, name, node string, changes ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name + "-pod", Labels: map[string]string{v1alpha1.LabelEnabled: "true", "app": name},
			Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "owner-of-" + name, UID: types.UID("rs-" + name), Controller: ptr.To(true),
			}},
		},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	}
	for _, change := range changes {
		change(pod)
	}
	c.create(t, pod)
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		}},
	}
	if err := c.admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// agent writes the phase of the pod's attempt.
func (c *cluster) agent(t *testing.T, pod *corev1.Pod, attempt int, phase v1alpha1.Phase, message string) {
	t.Helper()
	apiserver.Await(t, "a write", func(ctx context.Context) (string, bool, error) {
		pc := &v1alpha1.PodCheckpoint{}
		if err := c.admin.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: match.Name(pod, attempt)}, pc); err != nil {
			return "", false, err
		}
		pc.Status.Owner = match.OwnerOf(pod)
		pc.Status.Enter(phase, message, time.Now())
		err := c.admin.Status().Update(ctx, pc)
		return fmt.Sprint(err), err == nil, nil
	})
}

func (c *cluster) awaitNotice(t *testing.T, node, cause string) termination.Notice {
	t.Helper()
	var notice termination.Notice
	apiserver.Await(t, "a notice", func(ctx context.Context) (string, bool, error) {
		n := &corev1.Node{}
		err := c.admin.Get(ctx, client.ObjectKey{Name: node}, n)
		var ok bool
		notice, ok = termination.Running(n, time.Now())
		return n.Annotations[v1alpha1.AnnotationNotice], ok && notice.Cause == cause, err
	})
	return notice
}

func (c *cluster) awaitAttempt(t *testing.T, pod *corev1.Pod, attempt int) *v1alpha1.PodCheckpoint {
	t.Helper()
	pc := &v1alpha1.PodCheckpoint{}
	apiserver.Await(t, "a PodCheckpoint of "+pod.Name, func(ctx context.Context) (string, bool, error) {
		err := c.admin.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: match.Name(pod, attempt)}, pc)
		return "", err == nil, client.IgnoreNotFound(err)
	})
	return pc
}

// awaitGoing waits for the pod's deletion, and looks how it is deleted.
func (c *cluster) awaitGoing(t *testing.T, pod *corev1.Pod, grace int64, reason string) {
	t.Helper()
	var got corev1.Pod
	apiserver.Await(t, "the deletion of "+pod.Name, func(ctx context.Context) (string, bool, error) {
		err := c.admin.Get(ctx, client.ObjectKeyFromObject(pod), &got)
		return fmt.Sprint(got.Status.Conditions), got.DeletionTimestamp != nil, err
	})
	var reasons []string
	for _, condition := range got.Status.Conditions {
		if condition.Type == corev1.DisruptionTarget && condition.Status == corev1.ConditionTrue {
			reasons = append(reasons, condition.Reason)
		}
	}
	if diff := cmp.Diff([]string{reason}, reasons); diff != "" || ptr.Deref(got.DeletionGracePeriodSeconds, -1) != grace {
		t.Errorf("pod %q goes with a grace period of %d s, want %d; disruption (-want +got):\n%s", pod.Name, *got.DeletionGracePeriodSeconds, grace, diff)
	}
}

// awaitWords waits for an event with these words about the object of that name.
func (c *cluster) awaitWords(t *testing.T, reason, about, words string) {
	t.Helper()
	for _, note := range c.awaitEvents(t, reason, about) {
		if strings.Contains(note, words) {
			return
		}
	}
	t.Errorf("events %s on %s: %q, want %q", reason, about, c.awaitEvents(t, reason, about), words)
}
