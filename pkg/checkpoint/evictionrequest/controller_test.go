// SPDX-License-Identifier: Apache-2.0

package evictionrequest_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	lifecyclev1alpha1 "k8s.io/api/lifecycle/v1alpha1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	eventfake "github.com/cryopod/cryopod/pkg/checkpoint/event/fake"
	"github.com/cryopod/cryopod/pkg/checkpoint/evictionrequest"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
)

// errPutOff is what admission answers while the pod is being saved, errRefused what the API server does where a budget is against it.
var (
	errPutOff  = apierrors.NewTooManyRequests("Eviction triggered evacuation: the pod is being saved", 0)
	errRefused = &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: 429, Reason: metav1.StatusReasonTooManyRequests, Message: "the budget has none left",
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause}}},
	}}
)

func TestReconcile(t *testing.T) {
	now := start.Add(10 * time.Second)
	responder := func(change func(*lifecyclev1alpha1.ResponderStatus)) lifecyclev1alpha1.ResponderStatus {
		r := lifecyclev1alpha1.ResponderStatus{
			Name: "checkpoint.io/responder", StartTime: ptr.To(metav1.NewTime(start)), HeartbeatTime: ptr.To(metav1.NewTime(now)),
		}
		change(&r)
		return r
	}
	expected := ptr.To(metav1.NewTime(now.Add(2 * time.Minute)))
	ended := func(message string) func(*lifecyclev1alpha1.ResponderStatus) {
		return func(r *lifecyclev1alpha1.ResponderStatus) {
			r.CompletionTime, r.Message = ptr.To(metav1.NewTime(now)), ptr.To(message)
		}
	}
	for name, tc := range map[string]struct {
		objects []client.Object
		answer  error
		want    lifecyclev1alpha1.ResponderStatus
		evicted bool
		after   time.Duration
		tells   []string
	}{
		"not our turn": {
			objects: []client.Object{eviction(state(lifecyclev1alpha1.ResponderStateInactive)), pod()},
			want:    lifecyclev1alpha1.ResponderStatus{Name: "checkpoint.io/responder", StartTime: ptr.To(metav1.NewTime(start))},
		},
		"put off": {
			objects: []client.Object{eviction(), pod()}, answer: errPutOff, after: 5 * time.Second,
			want: responder(func(r *lifecyclev1alpha1.ResponderStatus) {
				r.ExpectedCompletionTime, r.Message = expected, ptr.To("the pod is to be saved")
			}),
		},
		"evicted": {
			objects: []client.Object{eviction(), pod()}, evicted: true,
			want: responder(func(r *lifecyclev1alpha1.ResponderStatus) {
				ended("the pod was evicted")(r)
				r.ExpectedCompletionTime = expected
			}),
		},
		"refused by a budget": {
			objects: []client.Object{eviction(beat(0)), pod()}, answer: errRefused,
			want:  responder(ended("the budget has none left; the next responder goes on")),
			tells: []string{"Warning EvictionHandedOver on cart: Not evicted by Cryopod: the budget has none left; the next responder goes on"},
		},
		"another pod of that name": {
			objects: []client.Object{eviction(beat(0)), pod(func(p *corev1.Pod) { p.UID = "another" })},
			want:    responder(ended("the pod has gone")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			evicted := false
			c := clientWith(t, func(sub string, ev *policyv1.Eviction) error {
				if sub != "eviction" || *ev.DeleteOptions.Preconditions.UID != "uid" {
					t.Errorf("%s of %v, want an eviction of the pod with UID uid", sub, ev.DeleteOptions)
				}
				evicted = tc.answer == nil
				return tc.answer
			}, tc.objects...)
			events := &eventfake.Recorder{}
			r := &evictionrequest.Reconciler{Client: c, Live: c, Events: events, Clock: clocktesting.NewFakePassiveClock(now)}
			key := client.ObjectKey{Namespace: "shop", Name: "cart-eviction"}
			result, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: key})
			if err != nil {
				t.Fatal(err)
			}
			got := &lifecyclev1alpha1.Eviction{}
			if err := c.Get(t.Context(), key, got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.Status.Responders[1], cmp.Comparer(func(a, b metav1.Time) bool { return a.Equal(&b) })); diff != "" {
				t.Errorf("our entry (-want +got):\n%s", diff)
			}
			if evicted != tc.evicted || result.RequeueAfter != tc.after {
				t.Errorf("evicted %v, again after %v; want %v, %v", evicted, result.RequeueAfter, tc.evicted, tc.after)
			}
			if diff := cmp.Diff(tc.tells, events.Lines()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func clientWith(t *testing.T, evict func(sub string, ev *policyv1.Eviction) error, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, policyv1.AddToScheme, lifecyclev1alpha1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&lifecyclev1alpha1.Eviction{}).
		WithIndex(&v1alpha1.PodCheckpoint{}, index.CheckpointPodUID, index.ByPodUID).
		WithInterceptorFuncs(interceptor.Funcs{SubResourceCreate: func(
			_ context.Context, _ client.Client, sub string, _ client.Object, ev client.Object, _ ...client.SubResourceCreateOption,
		) error {
			return evict(sub, ev.(*policyv1.Eviction))
		}}).Build()
}
