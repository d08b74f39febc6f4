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
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

var first = match.Name(running(), 1)

func TestEvictionHeldUntilReady(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		start := time.Now()
		answer := w.held(t.Context(), w.evictions())
		pcs := w.checkpoints()
		if len(pcs) != 1 {
			t.Fatalf("%d PodCheckpoints, want 1", len(pcs))
		}
		want := v1alpha1.PodCheckpointSpec{
			PodName: "web-0", PodUID: "p1", NodeName: "n1", Reason: v1alpha1.ReasonEviction, Fence: true, FenceSeconds: 30,
			MaxFreezeSeconds: 60, Deadline: ptr.To(metav1.NewTime(start.Add(2 * time.Minute).Local())),
			Removal: v1alpha1.RemovalNone, Value: v1alpha1.DefaultValue,
		}
		if diff := cmp.Diff(want, pcs[0].Spec); diff != "" {
			t.Errorf("spec (-want +got):\n%s", diff)
		}
		wantMeta := []any{
			first, map[string]string{"checkpoint.io/owner-uid": "o1", "checkpoint.io/pod-uid": "p1"},
			[]metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "o1"}},
		}
		if diff := cmp.Diff(wantMeta, []any{pcs[0].Name, pcs[0].Labels, pcs[0].OwnerReferences}); diff != "" {
			t.Errorf("metadata (-want +got):\n%s", diff)
		}
		read := w.count("get v1alpha1.PodCheckpoint")
		for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseFreezing, v1alpha1.PhaseDumping, v1alpha1.PhaseExporting} {
			time.Sleep(2 * time.Second)
			w.change(first, phaseTo(phase, ""))
		}
		time.Sleep(2 * time.Second)
		if n := w.count("get v1alpha1.PodCheckpoint") - read; n != 0 {
			t.Errorf("%d calls while it is being saved, want none: the cache tells", n)
		}
		w.change(first, phaseTo(v1alpha1.PhaseReady, ""))
		got := <-answer
		if n := w.count("get v1alpha1.PodCheckpoint") - read; n != 1 {
			t.Errorf("%d calls until it is Ready, want 1: that has to be certain", n)
		}
		if !got.Allowed || len(got.Patches) == 0 {
			t.Errorf("answer = %+v, want allowed with a patch", got)
		}
		if took := time.Since(start); took != 8*time.Second {
			t.Errorf("answered after %s, want at once when Ready, after 8s", took)
		}
		if n := w.deps.Changes.Len(); n != 0 {
			t.Errorf("%d objects are still being watched", n)
		}
		wantEvents := []string{"Pod CheckpointStarted: The pod is to be saved before its eviction; it goes by " +
			start.Add(2*time.Minute).UTC().Format(time.RFC3339) + ", with its checkpoint or without"}
		if diff := cmp.Diff(wantEvents, w.events.all()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	}, running(), canCheckpoint())
}

func TestEvictionPutOffWhenHeldForLong(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		start := time.Now()
		answer := w.held(t.Context(), w.evictions())
		w.change(first, phaseTo(v1alpha1.PhaseDumping, ""))
		got := (<-answer).AdmissionResponse
		if took := time.Since(start); took != 20*time.Second {
			t.Errorf("answered after %s, want 20s", took)
		}
		want := &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests,
			Message: "Eviction triggered evacuation: the pod is being saved (PodCheckpoint " + first + " is Dumping); try again, it goes by " +
				start.Add(2*time.Minute).UTC().Format(time.RFC3339) + ", with its checkpoint or without",
		}
		if diff := cmp.Diff(want, got.Result); diff != "" || got.Allowed {
			t.Errorf("allowed %t, result (-want +got):\n%s", got.Allowed, diff)
		}
	}, running(), canCheckpoint())
}

func TestEvictionNeverHeldPastDeadline(t *testing.T) {
	pod := running(annotate(v1alpha1.AnnotationDeadline, "35s"))
	bubble(t, func(t *testing.T, w *world) {
		start := time.Now()
		h := w.evictions()
		answer := w.held(t.Context(), h)
		w.change(first, phaseTo(v1alpha1.PhaseDumping, ""))
		if got := <-answer; got.Allowed {
			t.Errorf("first answer = %+v, want 429", got)
		}
		got := w.evictWith(t.Context(), h, eviction(), false)
		if !got.Allowed || len(got.Patches) > 0 {
			t.Errorf("second answer = %+v, want allowed as it came", got)
		}
		if took := time.Since(start); took != 35*time.Second {
			t.Errorf("answered after %s, want 35s", took)
		}
		if n := len(w.checkpoints()); n != 1 {
			t.Errorf("%d PodCheckpoints, want 1", n)
		}
	}, pod, canCheckpoint())
}

func TestEvictionCold(t *testing.T) {
	tests := map[string]struct {
		do   func(w *world)
		why  string
		took time.Duration
		// counted is whether the webhook counts the failure: who writes it does.
		counted bool
	}{
		"failed": {
			do:  func(w *world) { w.change(first, phaseTo(v1alpha1.PhaseFailed, "criu: unsupported socket")) },
			why: "criu: unsupported socket",
		},
		"the agent does not answer": {
			do: func(*world) {}, why: `the agent of the node "n1" did not answer within 10s`, took: 10 * time.Second, counted: true,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				start := time.Now()
				before := failures(t)
				answer := w.held(t.Context(), w.evictions())
				tc.do(w)
				got := <-answer
				if counted := failures(t) - before; (counted == 1) != tc.counted || counted > 1 {
					t.Errorf("%v failures are counted", counted)
				}
				if !got.Allowed || len(got.Patches) > 0 || len(got.Warnings) != 1 {
					t.Errorf("answer = %+v, want allowed as it came with a warning", got)
				}
				if took := time.Since(start); took != tc.took {
					t.Errorf("answered after %s, want %s", took, tc.took)
				}
				pc := w.checkpoints()[0]
				if pc.Status.Phase != v1alpha1.PhaseFailed || pc.Status.Message != tc.why {
					t.Errorf("the checkpoint is %s: %q", pc.Status.Phase, pc.Status.Message)
				}
				want := []string{
					"Pod EvictedCold: No checkpoint: " + tc.why + "; evicting without it, the replacement starts cold",
					"ReplicaSet EvictedCold: Pod web-0: No checkpoint: " + tc.why + "; evicting without it, the replacement starts cold",
				}
				if diff := cmp.Diff(want, w.events.all()[1:]); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
			}, running(), canCheckpoint())
		})
	}
}

func TestEvictionAgentWinsAgainstGivingUp(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.before = func(verb string, _ client.Object) error {
			if verb == "update status" {
				w.before = func(string, client.Object) error { return nil }
				w.change(first, phaseTo(v1alpha1.PhaseFreezing, ""))
			}
			return nil
		}
		answer := w.held(t.Context(), w.evictions())
		time.Sleep(12 * time.Second)
		w.change(first, phaseTo(v1alpha1.PhaseReady, ""))
		if got := <-answer; !got.Allowed || len(got.Patches) == 0 {
			t.Errorf("answer = %+v, want allowed with a patch", got)
		}
	}, running(), canCheckpoint())
}

func TestEvictionReleasedFreezesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		start := time.Now()
		answer := w.held(t.Context(), w.evictions())
		time.Sleep(time.Second)
		w.change(first, phaseTo(v1alpha1.PhaseReleased, ""))
		synctest.Wait()
		if n := len(w.checkpoints()); n != 2 {
			t.Fatalf("%d PodCheckpoints, want a second", n)
		}
		pcs := w.checkpoints()
		if !pcs[0].Spec.Deadline.Equal(pcs[1].Spec.Deadline) {
			t.Errorf("deadlines %s and %s differ", pcs[0].Spec.Deadline, pcs[1].Spec.Deadline)
		}
		time.Sleep(time.Second)
		w.change(match.Name(running(), 2), phaseTo(v1alpha1.PhaseReady, ""))
		if got := <-answer; !got.Allowed || len(got.Patches) == 0 {
			t.Errorf("answer = %+v, want allowed with a patch", got)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("answered after %s, want at once when the second is Ready, after 2s", took)
		}
		if n := w.deps.Changes.Len(); n != 0 {
			t.Errorf("%d objects are still being watched", n)
		}
	}, running(), canCheckpoint())
}

func TestEvictionMeetsTheCheckpointOfAnotherReplica(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		pc := attempt(1, v1alpha1.PhaseReady, 0)
		pc.CreationTimestamp = metav1.Now()
		pc.Spec.Deadline = ptr.To(metav1.NewTime(time.Now().Add(time.Minute)))
		w.before = func(verb string, _ client.Object) error {
			if verb == "create" {
				return w.api.Create(t.Context(), pc)
			}
			return nil
		}
		if got := w.evict(t.Context(), eviction(), false); !got.Allowed || len(got.Patches) == 0 {
			t.Errorf("answer = %+v, want allowed with a patch", got)
		}
		if e := w.events.all(); len(e) > 0 {
			t.Errorf("events %q of a checkpoint that another replica began", e)
		}
	}, running(), canCheckpoint())
}

func TestEvictionWithTheCacheBehind(t *testing.T) {
	tests := map[string]struct {
		cached, live v1alpha1.Phase
		// made is how many PodCheckpoints there are in the end.
		made int
	}{
		"ready by now":    {cached: v1alpha1.PhaseExporting, live: v1alpha1.PhaseReady, made: 1},
		"released by now": {cached: v1alpha1.PhaseReady, live: v1alpha1.PhaseReleased, made: 2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				pc := attempt(1, tc.cached, 0, func(pc *v1alpha1.PodCheckpoint) {
					pc.CreationTimestamp = metav1.Now()
					pc.Spec.Deadline = ptr.To(metav1.NewTime(time.Now().Add(time.Minute)))
				})
				w.deps.Cached = newWorld(t, pc.DeepCopy()).api
				pc.Status.Phase = tc.live
				if err := w.api.Create(t.Context(), pc); err != nil {
					t.Fatal(err)
				}
				w.options.Hold = time.Second
				got := w.evict(t.Context(), eviction(), false)
				if saved := got.Allowed && len(got.Patches) > 0; saved != (tc.live == v1alpha1.PhaseReady) {
					t.Errorf("answer = %+v, the checkpoint is %s", got, tc.live)
				}
				if n := len(w.checkpoints()); n != tc.made {
					t.Errorf("%d PodCheckpoints, want %d", n, tc.made)
				}
			}, running(), canCheckpoint())
		})
	}
}

func TestEvictionEndsWithItsRequest(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		w.options.MaxHolds = 1
		h := w.evictions()
		answer := w.held(ctx, h)
		if got := w.evictWith(t.Context(), h, eviction(), false); got.Allowed || got.Result.Code != http.StatusTooManyRequests {
			t.Errorf("answer without a seat = %+v, want 429", got)
		}
		cancel()
		if got := <-answer; got.Allowed || got.Result.Code != http.StatusTooManyRequests {
			t.Errorf("answer = %+v, want 429", got)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("answered after %s, want at once", took)
		}
		if n := w.deps.Changes.Len(); n != 0 {
			t.Errorf("%d objects are still being watched", n)
		}
		again := w.held(t.Context(), h)
		w.change(first, phaseTo(v1alpha1.PhaseReady, ""))
		if got := <-again; !got.Allowed {
			t.Errorf("the seat was not given back: %+v", got)
		}
	}, running(), canCheckpoint())
}

func TestEvictionTroubleWithTheAPI(t *testing.T) {
	broken := errors.New("broken")
	fail := func(verb, kind string, err error) func(*world) {
		return func(w *world) {
			w.before = func(v string, obj client.Object) error {
				_, isPod := obj.(*corev1.Pod)
				_, isProfile := obj.(*v1alpha1.NodeProfile)
				if v == verb && (kind == "pod" && isPod || kind == "profile" && isProfile || kind == "" && !isPod && !isProfile) {
					return err
				}
				return nil
			}
		}
	}
	tests := map[string]struct {
		set     func(*world)
		allowed bool
		event   string
	}{
		"no pod":         {set: fail("get", "pod", apierrors.NewNotFound(schema.GroupResource{}, "web-0")), allowed: true},
		"pod unreadable": {set: fail("get", "pod", broken), allowed: true},
		"no profile":     {set: fail("get", "profile", broken), allowed: true},
		"no create":      {set: fail("create", "", broken), allowed: true, event: "its PodCheckpoint could not be made: broken"},
		"gone silent":    {set: fail("get", "", broken)},
		"can't give up":  {set: fail("update status", "", broken), allowed: true, event: "did not answer within 10s"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				tc.set(w)
				got := w.evict(t.Context(), eviction(), false)
				if got.Allowed != tc.allowed || len(got.Patches) > 0 {
					t.Errorf("answer = %+v, want allowed %t as it came", got, tc.allowed)
				}
				if !tc.allowed && got.Result.Code != http.StatusTooManyRequests {
					t.Errorf("code = %d, want 429", got.Result.Code)
				}
				if events := strings.Join(w.events.all(), "\n"); !strings.Contains(events, tc.event) {
					t.Errorf("events %q, want one with %q", events, tc.event)
				}
			}, running(), canCheckpoint())
		})
	}
}

// plain makes the pod one that nobody opted in.
func plain(p *corev1.Pod) {
	p.Annotations = nil
	delete(p.Labels, v1alpha1.LabelEnabled)
}

// passedOver makes the pod one that was made while no webhook answered.
func passedOver(p *corev1.Pod) { delete(p.Labels, v1alpha1.LabelEnabled) }

func TestEvictionOfOthersCostsOneCall(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		if got := w.evict(t.Context(), eviction(), false); !got.Allowed || len(got.Warnings) > 0 {
			t.Errorf("answer = %+v, want allowed", got)
		}
		if diff := cmp.Diff([]string{"get any v1.Pod"}, w.calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	}, running(plain))
}

func TestEvictionOfAnOptedInPodThatTheCacheLacks(t *testing.T) {
	notFound := apierrors.NewNotFound(corev1.Resource("pods"), "web-0")
	for name, failure := range map[string]error{"the API server knows": nil, "its cache is behind": notFound, "its cache fails": errors.New("too old")} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.before = func(verb string, _ client.Object) error {
					if verb == "get any" {
						return failure
					}
					return nil
				}
				answer := w.held(t.Context(), w.evictions())
				w.change(first, phaseTo(v1alpha1.PhaseReady, ""))
				if got := <-answer; !got.Allowed || len(got.Patches) == 0 {
					t.Errorf("answer = %+v, want allowed with a patch", got)
				}
			}, running(passedOver), canCheckpoint())
		})
	}
}

func TestEvictionNotCheckpointable(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		if got := w.evict(t.Context(), eviction(), false); !got.Allowed || len(got.Patches) > 0 {
			t.Errorf("answer = %+v, want allowed as it came", got)
		}
		want := []string{`Pod NotCheckpointable: The pod can't be checkpointed: the node "n1" has no Cryopod agent; its eviction goes on without a checkpoint`}
		if diff := cmp.Diff(want, w.events.all()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	}, running())
}

func TestEvictionDryRunDoesNothing(t *testing.T) {
	inOptions := eviction()
	inOptions.DeleteOptions = &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	for name, tc := range map[string]struct {
		ev     policyv1.Eviction
		dryRun bool
	}{"request": {ev: eviction(), dryRun: true}, "options": {ev: inOptions}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				if got := w.evict(t.Context(), tc.ev, tc.dryRun); !got.Allowed || len(got.Patches) > 0 {
					t.Errorf("answer = %+v, want allowed as it came", got)
				}
				if n := w.count("create") + w.count("update") + len(w.events.all()); n > 0 {
					t.Errorf("%d writes and events", n)
				}
			}, running(), canCheckpoint())
		})
	}
}
