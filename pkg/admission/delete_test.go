// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/termination"
)

// deletion is one DELETE of a pod.
type deletion struct {
	user    string
	pod     *corev1.Pod
	options metav1.DeleteOptions
}

func (w *world) deletes() *admission.Delete {
	return admission.NewDelete(admission.NewKeeper(w.deps, w.options))
}

func (w *world) delete(ctx context.Context, h *admission.Delete, d deletion) ctrladmission.Response {
	return h.Handle(ctx, ctrladmission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Namespace: "ns", Name: d.pod.Name, UserInfo: authenticationv1.UserInfo{Username: d.user}, OldObject: raw(w.t, d.pod),
		Options: raw(w.t, d.options), DryRun: ptr.To(len(d.options.DryRun) > 0),
	}})
}

// deleting starts a deletion and returns once it is held.
func (w *world) deleting(ctx context.Context, h *admission.Delete, d deletion) <-chan ctrladmission.Response {
	out := make(chan ctrladmission.Response, 1)
	go func() { out <- w.delete(ctx, h, d) }()
	synctest.Wait()
	select {
	case r := <-out:
		w.t.Fatalf("the deletion was answered at once: %+v", r)
	default:
	}
	return out
}

// gone tells whether the pod is.
func (w *world) gone(name string) bool {
	w.t.Helper()
	err := w.api.Get(w.t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, &corev1.Pod{})
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
	return err != nil
}

func byTaint() deletion {
	return deletion{user: kubeSystem + "node-controller", pod: running(target("DeletionByTaintManager"))}
}

func byScheduler() deletion {
	return deletion{user: "system:kube-scheduler", pod: running(target("PreemptionByScheduler"))}
}

func TestDeleteHeldUntilReady(t *testing.T) {
	for name, tc := range map[string]struct {
		deletion
		want v1alpha1.Reason
		says string
	}{
		"taint manager": {byTaint(), v1alpha1.ReasonTermination, "the end of its node"},
		"scheduler":     {byScheduler(), v1alpha1.ReasonPreemption, "its preemption"},
		"Karpenter": {
			deletion{user: "system:serviceaccount:karpenter:karpenter", pod: running()}, v1alpha1.ReasonEviction, "its eviction",
		},
		"somebody, of one that wants it": {
			deletion{user: person, pod: running(annotate(v1alpha1.AnnotationOn, "delete"))}, v1alpha1.ReasonDeletion, "its deletion",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				start := time.Now()
				before := deletions(t)
				answer := w.deleting(t.Context(), w.deletes(), tc.deletion)
				pc := w.checkpoints()[0]
				if pc.Spec.Reason != tc.want || pc.Spec.Removal != v1alpha1.RemovalDelete || !pc.Spec.Fence || pc.Name != first {
					t.Errorf("PodCheckpoint %s has the spec %+v", pc.Name, pc.Spec)
				}
				time.Sleep(3 * time.Second)
				w.change(first, phaseTo(v1alpha1.PhaseReady, ""))
				got := <-answer
				if !got.Allowed || len(got.Patches) > 0 || len(got.Warnings) > 0 {
					t.Errorf("answer = %+v, want allowed as it came", got)
				}
				if took := time.Since(start); took != 3*time.Second {
					t.Errorf("answered after %s, want at once when Ready, after 3s", took)
				}
				if !w.gone("web-0") || w.count("delete v1.Pod") != 1 {
					t.Errorf("the saved pod was deleted %d times", w.count("delete v1.Pod"))
				}
				want := []string{"Pod CheckpointStarted: The pod is to be saved before " + tc.says + "; it goes by " +
					start.Add(2*time.Minute).UTC().Format(time.RFC3339) + ", with its checkpoint or without"}
				if diff := cmp.Diff(want, w.events.all()); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				if n := deletions(t) - before; n != 1 {
					t.Errorf("%v deletions are counted, want 1", n)
				}
			}, running(), canCheckpoint())
		})
	}
}

// TestDeleteEndsTheVeryPod looks at the request by which the handler ends a saved pod.
func TestDeleteEndsTheVeryPod(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var options client.DeleteOptions
		w.deleted = func(opts ...client.DeleteOption) { options.ApplyOptions(opts) }
		answer := w.deleting(t.Context(), w.deletes(), byTaint())
		w.change(first, phaseTo(v1alpha1.PhaseReady, ""))
		if got := <-answer; !got.Allowed {
			t.Errorf("answer = %+v, want allowed", got)
		}
		if *options.GracePeriodSeconds != 1 || *options.Preconditions.UID != "p1" {
			t.Errorf("deleted with %+v, want a grace period of 1 s and the UID p1", options)
		}
	}, running(), canCheckpoint())
}

func TestDeleteUntouched(t *testing.T) {
	terminating := running(func(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.Now()) })
	for name, d := range map[string]deletion{
		"somebody's":          {user: person, pod: running()},
		"a rollout's":         {user: kubeSystem + "replicaset-controller", pod: running(annotate(v1alpha1.AnnotationOn, "delete,eviction"))},
		"a dry run":           {user: "system:kube-scheduler", pod: running(), options: metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}},
		"by force":            {user: "system:kube-scheduler", pod: running(), options: metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}},
		"of another pod":      {user: "system:kube-scheduler", pod: running(), options: *metav1.NewPreconditionDeleteOptions("p0")},
		"terminating":         {user: "system:kube-scheduler", pod: terminating},
		"not opted in":        {user: "system:kube-scheduler", pod: running(func(p *corev1.Pod) { p.Annotations = nil })},
		"not on its list":     {user: "system:kube-scheduler", pod: running(annotate(v1alpha1.AnnotationOn, "eviction"))},
		"not running":         {user: "system:kube-scheduler", pod: running(podPhase(corev1.PodPending))},
		"not opted in either": {user: person, pod: running(annotate(v1alpha1.AnnotationEnabled, "false"))},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				start := time.Now()
				got := w.delete(t.Context(), w.deletes(), d)
				if !got.Allowed || len(got.Patches) > 0 || len(got.Warnings) > 0 || time.Since(start) != 0 {
					t.Errorf("after %s: %+v, want allowed at once", time.Since(start), got)
				}
				// Whose deletion it is may take a look at the node, and nothing more.
				if n := len(w.checkpoints()); n != 0 || len(w.events.all()) != 0 || w.count("delete") != 0 || w.count("get") > 1 {
					t.Errorf("%d PodCheckpoints, events %q, calls %q", n, w.events.all(), w.calls)
				}
			}, running(), canCheckpoint())
		})
	}
}

func TestDeletePutOffWhenHeldForLong(t *testing.T) {
	for name, tc := range map[string]struct {
		deletion
		hold time.Duration
	}{
		"taint manager": {byTaint(), 20 * time.Second},
		"scheduler":     {byScheduler(), 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				start := time.Now()
				w.options.PreemptionHold = 5 * time.Second
				answer := w.deleting(t.Context(), w.deletes(), tc.deletion)
				w.change(first, phaseTo(v1alpha1.PhaseDumping, ""))
				got := (<-answer).AdmissionResponse
				if took := time.Since(start); took != tc.hold {
					t.Errorf("answered after %s, want %s", took, tc.hold)
				}
				want := &metav1.Status{
					Status: metav1.StatusFailure, Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests,
					Message: "The pod is being saved (PodCheckpoint " + first + " is Dumping); it is deleted as soon as it is saved, and by " +
						start.Add(2*time.Minute).UTC().Format(time.RFC3339) + " in any case",
				}
				if diff := cmp.Diff(want, got.Result); diff != "" || got.Allowed {
					t.Errorf("allowed %t, result (-want +got):\n%s", got.Allowed, diff)
				}
				if w.gone("web-0") {
					t.Error("the pod is gone before it is saved")
				}
			}, running(), canCheckpoint())
		})
	}
}

// TestDeleteSlowsSchedulersDown has a scheduler try again and again where no request may be held.
func TestDeleteSlowsSchedulersDown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.options.MaxHolds = 1
		k := admission.NewKeeper(w.deps, w.options)
		ctx, cancel := context.WithCancel(t.Context())
		held := w.deleting(ctx, admission.NewDelete(k), byTaint())
		for range 3 {
			start := time.Now()
			got := w.delete(t.Context(), admission.NewDelete(k), byScheduler())
			if took := time.Since(start); got.Allowed || took != time.Second {
				t.Errorf("after %s: %+v, want 429 after 1s", took, got)
			}
		}
		cancel()
		<-held
	}, running(), canCheckpoint())
}

func TestDeleteCold(t *testing.T) {
	for name, tc := range map[string]struct {
		do  func(w *world)
		why string
	}{
		"failed": {
			func(w *world) { w.change(first, phaseTo(v1alpha1.PhaseFailed, "criu: unsupported socket")) }, "criu: unsupported socket",
		},
		"the agent does not answer": {func(*world) {}, `the agent of the node "n1" did not answer within 10s`},
		"past the deadline": {
			func(w *world) { w.change(first, phaseTo(v1alpha1.PhaseExporting, "")) }, "the checkpoint was not ready before the deadline",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				d := byTaint()
				d.pod.Annotations[v1alpha1.AnnotationDeadline] = "15s"
				d.pod.Annotations[v1alpha1.AnnotationOnFailure] = v1alpha1.OnFailureBlock
				answer := w.deleting(t.Context(), w.deletes(), d)
				tc.do(w)
				got := <-answer
				if !got.Allowed || len(got.Warnings) != 1 || w.count("delete") != 0 {
					t.Errorf("answer = %+v, want allowed as it came with a warning", got)
				}
				note := "No checkpoint before the end of its node: " + tc.why + "; deleting without it, the replacement starts cold"
				want := []string{"Pod EvictedCold: " + note, "ReplicaSet EvictedCold: Pod web-0: " + note}
				if diff := cmp.Diff(want, w.events.all()[1:]); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
			}, running(), canCheckpoint())
		})
	}
}

func TestDeleteOfWhatCannotBeSaved(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		got := w.delete(t.Context(), w.deletes(), byTaint())
		if !got.Allowed || len(got.Warnings) != 1 || len(w.checkpoints()) != 0 {
			t.Errorf("answer = %+v, want allowed as it came with a warning", got)
		}
		want := []string{`Pod NotCheckpointable: The pod can't be checkpointed: the node "n1" has no Cryopod agent; its deletion goes on without a checkpoint`}
		if diff := cmp.Diff(want, w.events.all()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	}, running())
}

// TestDeleteFromADeadNode has the taint manager delete the pods of a node of which nothing is heard: nobody is there to save them.
func TestDeleteFromADeadNode(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}},
	}}
	bubble(t, func(t *testing.T, w *world) {
		if got := w.delete(t.Context(), w.deletes(), byTaint()); !got.Allowed || len(w.checkpoints()) != 0 {
			t.Errorf("answer = %+v with %d PodCheckpoints, want allowed and none", got, len(w.checkpoints()))
		}
		want := []string{`Pod NotCheckpointable: The pod can't be checkpointed: the node "n1" does not answer; its deletion goes on without a checkpoint`}
		if diff := cmp.Diff(want, w.events.all()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	}, running(), canCheckpoint(), node)
}

// TestDeleteWithinTheNodesTime has nodes that end before the pod's own deadline, or do not.
func TestDeleteWithinTheNodesTime(t *testing.T) {
	for name, tc := range map[string]struct {
		deletion
		notice *termination.Notice
		cordon bool
		reason v1alpha1.Reason
		left   time.Duration
	}{
		"no end is known":      {deletion: byTaint(), reason: v1alpha1.ReasonTermination, left: 2 * time.Minute},
		"a spot termination":   {deletion: byTaint(), notice: &termination.Notice{Cause: "spot"}, reason: v1alpha1.ReasonTermination, left: 37 * time.Second},
		"it stays for as long": {deletion: byTaint(), notice: &termination.Notice{Cause: "karpenter", Voluntary: true}, reason: v1alpha1.ReasonTermination, left: 2 * time.Minute},
		"somebody, before the node ends": {
			deletion: deletion{user: person, pod: running()}, notice: &termination.Notice{Cause: "spot"}, reason: v1alpha1.ReasonTermination, left: 37 * time.Second,
		},
		"somebody drains":                {deletion: deletion{user: person, pod: running()}, cordon: true, reason: v1alpha1.ReasonEviction, left: 2 * time.Minute},
		"somebody drains, with patience": {deletion: deletion{user: person, pod: running(), options: seconds(60)}, cordon: true, reason: v1alpha1.ReasonEviction, left: 2 * time.Minute},
		"Karpenter, past its deadline":   {deletion: deletion{user: kubeSystem + "karpenter", pod: running(), options: seconds(25)}, reason: v1alpha1.ReasonEviction, left: 25 * time.Second},
		"Karpenter, with the pod's own":  {deletion: deletion{user: kubeSystem + "karpenter", pod: running(), options: seconds(30)}, reason: v1alpha1.ReasonEviction, left: 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{}}, Spec: corev1.NodeSpec{Unschedulable: tc.cordon}}
				if n := tc.notice; n != nil {
					n.Since, n.Deadline = time.Now(), time.Now().Add(40*time.Second)
					node.Annotations[v1alpha1.AnnotationNotice] = n.Encode()
				}
				if err := w.api.Create(t.Context(), node); err != nil {
					t.Fatal(err)
				}
				answer := w.deleting(t.Context(), w.deletes(), tc.deletion)
				pc := w.checkpoints()[0]
				if left := time.Until(pc.Spec.Deadline.Time); left != tc.left || pc.Spec.Reason != tc.reason {
					t.Errorf("saved for %s within %s, want %s within %s", pc.Spec.Reason, left, tc.reason, tc.left)
				}
				w.change(first, phaseTo(v1alpha1.PhaseReady, ""))
				<-answer
			}, running(), canCheckpoint())
		})
	}
}

func seconds(n int64) metav1.DeleteOptions { return metav1.DeleteOptions{GracePeriodSeconds: &n} }

// TestDeleteJoinsAnEviction has the taint manager delete a pod while an eviction of it is under way.
func TestDeleteJoinsAnEviction(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		k := admission.NewKeeper(w.deps, w.options)
		evicted := w.held(t.Context(), admission.NewEviction(k))
		deleted := w.deleting(t.Context(), admission.NewDelete(k), byTaint())
		if n := len(w.checkpoints()); n != 1 {
			t.Errorf("%d PodCheckpoints, want one for both", n)
		}
		w.change(first, phaseTo(v1alpha1.PhaseReady, ""))
		if a, b := <-evicted, <-deleted; !a.Allowed || len(a.Patches) == 0 || !b.Allowed {
			t.Errorf("answers %+v and %+v, want both allowed", a, b)
		}
	}, running(), canCheckpoint())
}

func TestDeleteTroubleWithTheAPI(t *testing.T) {
	broken := errors.New("broken")
	for name, tc := range map[string]struct {
		verb, kind string
		allowed    bool
	}{
		"the node can't be read":       {"get", "*v1.Node", true},
		"the profile can't be read":    {"get", "*v1alpha1.NodeProfile", true},
		"no PodCheckpoint can be made": {"create", "*v1alpha1.PodCheckpoint", true},
		"the pod can't be deleted":     {"delete", "*v1.Pod", true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.before = func(verb string, obj client.Object) error {
					if verb == tc.verb && strings.HasSuffix(typeOf(obj), tc.kind) {
						return broken
					}
					return nil
				}
				out := make(chan ctrladmission.Response, 1)
				go func() { out <- w.delete(t.Context(), w.deletes(), byTaint()) }()
				synctest.Wait()
				if len(w.checkpoints()) > 0 {
					w.change(first, phaseTo(v1alpha1.PhaseReady, ""))
				}
				if got := <-out; got.Allowed != tc.allowed {
					t.Errorf("answer = %+v, want allowed: %t", got, tc.allowed)
				}
			}, running(), canCheckpoint())
		})
	}
}

func TestDeleteThatCannotBeRead(t *testing.T) {
	w := newWorld(t)
	if got := w.deletes().Handle(t.Context(), request(raw(t, nil))); !got.Allowed {
		t.Errorf("answer = %+v, want allowed", got)
	}
}

func TestDeleteEndsWithItsRequest(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		answer := w.deleting(ctx, w.deletes(), byTaint())
		cancel()
		if got := <-answer; got.Allowed || got.Result.Code != http.StatusTooManyRequests {
			t.Errorf("answer = %+v, want 429", got)
		}
	}, running(), canCheckpoint())
}
