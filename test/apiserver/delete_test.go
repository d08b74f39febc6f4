// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/kubectl/pkg/drain"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	kubeSystem   = "system:serviceaccount:kube-system:"
	taintManager = kubeSystem + "node-controller"
	scheduler    = "system:kube-scheduler"
	karpenter    = kubeSystem + "karpenter"
	person       = "jane"
)

// as is a client of that user, who may do everything.
func as(t *testing.T, user string) *kubernetes.Clientset {
	t.Helper()
	config := rest.CopyConfig(server.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:masters"}}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// deleter deletes the pod in some way.
type deleter func(ctx context.Context, pods typedcorev1.PodInterface, pod *corev1.Pod) error

func with(o metav1.DeleteOptions) deleter {
	return func(ctx context.Context, pods typedcorev1.PodInterface, pod *corev1.Pod) error {
		return pods.Delete(ctx, pod.Name, o)
	}
}

// all deletes all pods of the namespace by one request.
func all(ctx context.Context, pods typedcorev1.PodInterface, _ *corev1.Pod) error {
	return pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
}

// disrupted writes what system actors write before they delete a pod.
func disrupted(t *testing.T, pod *corev1.Pod, reason string) {
	t.Helper()
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, LastTransitionTime: metav1.Now(),
	})
	if err := admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

func TestDeleteOfASavedPod(t *testing.T) {
	toDelete := annotated(v1alpha1.AnnotationOn, "delete")
	asItIs := func(*corev1.Pod) {}
	for name, tc := range map[string]struct {
		user, target string
		change       func(*corev1.Pod)
		do           deleter
		reason       v1alpha1.Reason
		// within is the time until the deadline, at most.
		within time.Duration
	}{
		"taint manager":               {taintManager, "DeletionByTaintManager", asItIs, with(metav1.DeleteOptions{}), v1alpha1.ReasonTermination, 2 * time.Minute},
		"taint manager, one user":     {"system:kube-controller-manager", "DeletionByTaintManager", asItIs, with(metav1.DeleteOptions{}), v1alpha1.ReasonTermination, 2 * time.Minute},
		"scheduler":                   {scheduler, "PreemptionByScheduler", asItIs, with(metav1.DeleteOptions{}), v1alpha1.ReasonPreemption, 2 * time.Minute},
		"Karpenter":                   {karpenter, "", asItIs, with(metav1.DeleteOptions{}), v1alpha1.ReasonEviction, 2 * time.Minute},
		"Karpenter, out of time":      {karpenter, "", asItIs, with(metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(20))}), v1alpha1.ReasonEviction, 20 * time.Second},
		"somebody":                    {person, "", toDelete, with(metav1.DeleteOptions{}), v1alpha1.ReasonDeletion, 2 * time.Minute},
		"somebody, with all others":   {person, "", toDelete, all, v1alpha1.ReasonDeletion, 2 * time.Minute},
		"somebody, with all patience": {person, "", toDelete, with(metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(600))}), v1alpha1.ReasonDeletion, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, nil)
			pod := runPod(t, newPod(ns, tc.change))
			if tc.target != "" {
				disrupted(t, pod, tc.target)
			}
			agent(t, pod, v1alpha1.PhaseReady, "")
			pods := as(t, tc.user).CoreV1().Pods(ns)
			if err := held(t, func() error { return tc.do(t.Context(), pods, pod) }); err != nil {
				t.Fatal(err)
			}
			got := getPod(t, pod)
			if got.DeletionTimestamp == nil || ptr.Deref(got.DeletionGracePeriodSeconds, -1) != 1 {
				t.Errorf("deleted at %v, grace %v, want a grace of 1 s", got.DeletionTimestamp, got.DeletionGracePeriodSeconds)
			}
			pcs := checkpoints(t, ns)
			if len(pcs) != 1 || pcs[0].Spec.PodUID != pod.UID || pcs[0].Spec.Reason != tc.reason || pcs[0].Spec.Removal != v1alpha1.RemovalDelete {
				t.Fatalf("PodCheckpoints = %+v", pcs)
			}
			if left := pcs[0].Spec.Deadline.Sub(pcs[0].CreationTimestamp.Time); left > tc.within+time.Second || left < tc.within-15*time.Second {
				t.Errorf("the deadline is after %s, want %s", left, tc.within)
			}
		})
	}
}

func TestDeleteUntouched(t *testing.T) {
	none, toDelete := func(*corev1.Pod) {}, annotated(v1alpha1.AnnotationOn, "delete,eviction,termination,preemption")
	at := func(seconds int64) deleter { return with(metav1.DeleteOptions{GracePeriodSeconds: &seconds}) }
	for name, tc := range map[string]struct {
		user   string
		labels map[string]string
		change func(*corev1.Pod)
		do     deleter
		// calls is how often the webhook is asked, and again how often it may be asked beyond that: a forced deletion is noted before it is
		// done, and checked once more as long as the API server's cache has not seen the note.
		calls, again int64
		// stays is whether the pod is not deleted.
		stays bool
	}{
		"somebody, of one that is not saved for it": {user: person, change: none, do: at(30), calls: 1},
		"somebody, by force":                        {user: person, change: toDelete, do: at(0), calls: 1, again: 1},
		"somebody, in a dry run":                    {user: person, change: toDelete, do: with(metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}), calls: 1, stays: true},
		"somebody, of one that is not opted in":     {user: person, change: plain, do: at(30)},
		"somebody, in an excluded namespace":        {user: person, labels: map[string]string{v1alpha1.LabelExclude: "true"}, change: toDelete, do: at(30)},
		"scheduler, of one that is not opted in":    {user: scheduler, change: plain, do: at(30)},
		"scheduler, of one that is not for it":      {user: scheduler, change: annotated(v1alpha1.AnnotationOn, "delete"), do: at(30), calls: 1},
		"the node controller, without a taint":      {user: taintManager, change: toDelete, do: at(30), calls: 1},
		"all controllers as one user":               {user: "system:kube-controller-manager", change: toDelete, do: at(30), calls: 1},
		"a kubelet":                                 {user: "system:node:node-a", change: toDelete, do: at(30)},
		"a kubelet, in the end":                     {user: "system:node:node-a", change: toDelete, do: at(0)},
		"a rollout or a scale-down":                 {user: kubeSystem + "replicaset-controller", change: toDelete, do: at(30)},
		"a StatefulSet":                             {user: kubeSystem + "statefulset-controller", change: toDelete, do: at(30)},
		"a Job's end":                               {user: kubeSystem + "job-controller", change: toDelete, do: at(30)},
		"the garbage collector":                     {user: kubeSystem + "generic-garbage-collector", change: toDelete, do: at(30)},
		"the pod garbage collector":                 {user: kubeSystem + "pod-garbage-collector", change: toDelete, do: at(0)},
		"a namespace's end":                         {user: kubeSystem + "namespace-controller", change: toDelete, do: all},
		"Cryopod":                                   {user: "system:serviceaccount:cryopod-system:cryopod-webhook", change: toDelete, do: at(1)},
		"Cryopod's agent":                           {user: "system:serviceaccount:cryopod-system:cryopod-agent", change: toDelete, do: at(1)},
	} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, tc.labels)
			pod := runPod(t, newPod(ns, tc.change))
			before := calls[admission.PathDelete].Load()
			// One that is held has a PodCheckpoint, and no agent that would save the pod: it is answered with 429.
			if err := tc.do(t.Context(), as(t, tc.user).CoreV1().Pods(ns), pod); err != nil {
				t.Fatal(err)
			}
			if n := calls[admission.PathDelete].Load() - before; n < tc.calls || n > tc.calls+tc.again {
				t.Errorf("%d calls, want %d, and at most %d more", n, tc.calls, tc.again)
			}
			if n := len(checkpoints(t, ns)); n != 0 {
				t.Errorf("%d PodCheckpoints", n)
			}
			var got corev1.Pod
			err := admin.Get(t.Context(), client.ObjectKeyFromObject(pod), &got)
			if gone := apierrors.IsNotFound(err) || err == nil && got.DeletionTimestamp != nil; gone == tc.stays {
				t.Errorf("the pod: %v, deleted at %v, want it to stay: %t", err, got.DeletionTimestamp, tc.stays)
			}
		})
	}
}

// TestDeleteOfAPodOnItsWay deletes a pod that is terminating already, and one that has ended.
func TestDeleteOfAPodOnItsWay(t *testing.T) {
	ns := namespace(t, nil)
	pod := runPod(t, newPod(ns, annotated(v1alpha1.AnnotationOn, "delete")))
	pods := as(t, kubeSystem+"replicaset-controller").CoreV1().Pods(ns)
	if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	ended := runPod(t, newPod(ns, annotated(v1alpha1.AnnotationOn, "delete")))
	ended.Status.Phase = corev1.PodSucceeded
	if err := admin.Status().Update(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	settle(t, ended)
	before := calls[admission.PathDelete].Load()
	if err := all(t.Context(), as(t, person).CoreV1().Pods(ns), nil); err != nil {
		t.Error(err)
	}
	if n := calls[admission.PathDelete].Load() - before; n != 0 {
		t.Errorf("%d calls", n)
	}
}

// TestDeleteInATerminatingNamespace has nobody but the API server tell that nothing can be saved there.
func TestDeleteInATerminatingNamespace(t *testing.T) {
	ns := namespace(t, nil)
	pod := runPod(t, newPod(ns, annotated(v1alpha1.AnnotationOn, "delete")))
	if err := admin.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}); err != nil {
		t.Fatal(err)
	}
	// One that is held is answered with 429 in the end.
	if err := as(t, person).CoreV1().Pods(ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if got := getPod(t, pod); got.DeletionTimestamp == nil || len(checkpoints(t, ns)) != 0 {
		t.Errorf("deleted at %v, with %d PodCheckpoints", got.DeletionTimestamp, len(checkpoints(t, ns)))
	}
}

// TestDeletePutOff has a checkpoint that takes longer than a request is held, as often as the taint manager tries, and one try later.
func TestDeletePutOff(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	pod := runPod(t, newPod(ns))
	disrupted(t, pod, "DeletionByTaintManager")
	agent(t, pod, v1alpha1.PhaseDumping, "")
	pods := as(t, taintManager).CoreV1().Pods(ns)
	for range 2 {
		start := time.Now()
		err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{})
		if took := time.Since(start); took < hold || took > patience {
			t.Errorf("answered after %s, want %s and no retry inside the client", took, hold)
		}
		if !apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), "it is deleted as soon as it is saved") {
			t.Errorf("error = %v, want 429 that says what becomes of the pod", err)
		}
		if _, suggests := apierrors.SuggestsClientDelay(err); suggests {
			t.Error("the answer suggests a retry")
		}
	}
	if getPod(t, pod).DeletionTimestamp != nil {
		t.Error("the pod is being deleted")
	}
	agent(t, pod, v1alpha1.PhaseReady, "")
	if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if got := getPod(t, pod); ptr.Deref(got.DeletionGracePeriodSeconds, -1) != 1 || len(checkpoints(t, ns)) != 1 {
		t.Errorf("grace %v and %d PodCheckpoints, want 1 s and one", got.DeletionGracePeriodSeconds, len(checkpoints(t, ns)))
	}
}

// TestDeleteCold has a checkpoint that fails: the pod gets its own grace period.
func TestDeleteCold(t *testing.T) {
	ns := namespace(t, nil)
	pod := runPod(t, newPod(ns))
	disrupted(t, pod, "DeletionByTaintManager")
	agent(t, pod, v1alpha1.PhaseFailed, "criu: unsupported socket")
	pods := as(t, taintManager).CoreV1().Pods(ns)
	if err := held(t, func() error { return pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}) }); err != nil {
		t.Error(err)
	}
	if got := getPod(t, pod); ptr.Deref(got.DeletionGracePeriodSeconds, -1) != 30 {
		t.Errorf("grace = %v, want the pod's own", got.DeletionGracePeriodSeconds)
	}
}

// TestDrainWithoutEvictions has kubectl's own code delete the pods of a cordoned node.
func TestDrainWithoutEvictions(t *testing.T) {
	node := create(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}, Spec: corev1.NodeSpec{Unschedulable: true}})
	t.Cleanup(func() { _ = admin.Delete(context.Background(), node) })
	ns := namespace(t, nil)
	pod := runPod(t, newPod(ns))
	agent(t, pod, v1alpha1.PhaseReady, "")
	kubelet(t, pod)
	helper := &drain.Helper{
		Ctx: t.Context(), Client: as(t, person), GracePeriodSeconds: -1, Timeout: time.Minute, Out: io.Discard, ErrOut: io.Discard,
		DisableEviction: true,
	}
	if err := helper.DeleteOrEvictPods([]corev1.Pod{*pod}); err != nil {
		t.Errorf("drain: %v", err)
	}
	if pcs := checkpoints(t, ns); len(pcs) != 1 || pcs[0].Spec.Reason != v1alpha1.ReasonEviction {
		t.Errorf("PodCheckpoints = %+v, want one for an eviction", pcs)
	}
}
