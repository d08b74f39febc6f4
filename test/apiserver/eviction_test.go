// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubectl/pkg/drain"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func evictionOf(pod *corev1.Pod) *policyv1.Eviction {
	return &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
}

// post sends the eviction as it is, so that both of its API versions can be sent.
func post(t *testing.T, pod *corev1.Pod, ev runtime.Object, opts *metav1.CreateOptions) error {
	t.Helper()
	return clientset(t).CoreV1().RESTClient().Post().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("eviction").
		VersionedParams(opts, metav1.ParameterCodec).Body(ev).Do(t.Context()).Error()
}

func TestEvictionOfASavedPod(t *testing.T) {
	v1 := func(p *corev1.Pod) runtime.Object {
		ev := evictionOf(p)
		ev.TypeMeta = metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"}
		return ev
	}
	with := func(d *metav1.DeleteOptions) func(*corev1.Pod) runtime.Object {
		return func(p *corev1.Pod) runtime.Object {
			ev := v1(p).(*policyv1.Eviction)
			ev.DeleteOptions = d
			return ev
		}
	}
	tests := map[string]func(*corev1.Pod) runtime.Object{
		"policy/v1": v1,
		"policy/v1beta1": func(p *corev1.Pod) runtime.Object {
			return &policyv1beta1.Eviction{
				TypeMeta: metav1.TypeMeta{APIVersion: "policy/v1beta1", Kind: "Eviction"}, ObjectMeta: evictionOf(p).ObjectMeta,
			}
		},
		"a longer grace period": with(&metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(600))}),
		"by force":              with(&metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}),
		"other preconditions":   with(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{}}),
	}
	for name, eviction := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, nil)
			pod := runPod(t, newPod(ns))
			agent(t, pod, v1alpha1.PhaseReady, "")
			err := held(t, func() error { return post(t, pod, eviction(pod), &metav1.CreateOptions{}) })
			if err != nil {
				t.Fatal(err)
			}
			got := getPod(t, pod)
			if got.DeletionTimestamp == nil || ptr.Deref(got.DeletionGracePeriodSeconds, -1) != 1 {
				t.Errorf("deleted at %v, grace %v, want a grace of 1 s", got.DeletionTimestamp, got.DeletionGracePeriodSeconds)
			}
			if pcs := checkpoints(t, ns); len(pcs) != 1 || pcs[0].Spec.PodUID != pod.UID || pcs[0].Spec.NodeName != "node-a" {
				t.Errorf("PodCheckpoints = %+v", pcs)
			}
		})
	}
}

// TestEvictionNamesThePod has an eviction that means another pod of that name.
func TestEvictionNamesThePod(t *testing.T) {
	ns := namespace(t, nil)
	pod := runPod(t, newPod(ns))
	ev := evictionOf(pod)
	ev.DeleteOptions = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr.To(types.UID("another"))}}
	if err := clientset(t).CoreV1().Pods(ns).EvictV1(t.Context(), ev); !apierrors.IsConflict(err) {
		t.Errorf("error = %v, want a conflict", err)
	}
	if n := len(checkpoints(t, ns)); n != 0 {
		t.Errorf("%d PodCheckpoints for an eviction of another pod", n)
	}
}

func TestEvictionPutOff(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	pod := runPod(t, newPod(ns))
	agent(t, pod, v1alpha1.PhaseDumping, "")
	start := time.Now()
	err := clientset(t).CoreV1().Pods(ns).EvictV1(t.Context(), evictionOf(pod))
	if took := time.Since(start); took < hold || took > patience {
		t.Errorf("answered after %s, want %s and no retry inside the client", took, hold)
	}
	if !apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), "Eviction triggered evacuation") {
		t.Errorf("error = %v, want 429 with the words of an evacuation", err)
	}
	if seconds, suggests := apierrors.SuggestsClientDelay(err); suggests {
		t.Errorf("the answer suggests a retry after %d s", seconds)
	}
	if getPod(t, pod).DeletionTimestamp != nil {
		t.Error("the pod is being deleted")
	}
}

// TestDrain has kubectl's own code meet a 429 first; then the checkpoint becomes ready.
func TestDrain(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	pod := runPod(t, newPod(ns))
	agent(t, pod, v1alpha1.PhaseExporting, "")
	var once sync.Once
	said := &watched{wrote: func(text string) {
		if strings.Contains(text, "Eviction triggered evacuation") {
			once.Do(func() { agent(t, pod, v1alpha1.PhaseReady, "") })
		}
	}}
	kubelet(t, pod)
	helper := &drain.Helper{
		Ctx: t.Context(), Client: clientset(t), GracePeriodSeconds: -1, Timeout: time.Minute, Out: io.Discard, ErrOut: said,
		EvictErrorRetryDelay: 100 * time.Millisecond,
	}
	if err := helper.DeleteOrEvictPods([]corev1.Pod{*pod}); err != nil {
		t.Errorf("drain: %v", err)
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(pod), &corev1.Pod{}); !apierrors.IsNotFound(err) {
		t.Errorf("the pod after the drain: %v", err)
	}
	once.Do(func() { t.Error("drain never said that it was put off") })
}

// watched is a writer that tells what is written.
type watched struct{ wrote func(text string) }

func (w *watched) Write(p []byte) (int, error) {
	w.wrote(string(p))
	return len(p), nil
}

// kubelet removes the pod once it is being deleted.
func kubelet(t *testing.T, pod *corev1.Pod) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			var got corev1.Pod
			if err := admin.Get(ctx, client.ObjectKeyFromObject(pod), &got); err == nil && got.DeletionTimestamp != nil {
				_ = admin.Delete(ctx, &got, client.GracePeriodSeconds(0))
			}
		}
	}()
}

func TestEvictionDryRun(t *testing.T) {
	inOptions := func(p *corev1.Pod) *policyv1.Eviction {
		ev := evictionOf(p)
		ev.DeleteOptions = &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
		return ev
	}
	tests := map[string]struct {
		eviction func(*corev1.Pod) *policyv1.Eviction
		options  metav1.CreateOptions
	}{
		"request": {eviction: evictionOf, options: metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}},
		"options": {eviction: inOptions},
		"both":    {eviction: inOptions, options: metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, nil)
			pod := runPod(t, newPod(ns))
			ev := tc.eviction(pod)
			ev.TypeMeta = metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"}
			if err := post(t, pod, ev, &tc.options); err != nil {
				t.Errorf("evicting: %v", err)
			}
			if n := len(checkpoints(t, ns)); n != 0 {
				t.Errorf("%d PodCheckpoints", n)
			}
			if getPod(t, pod).DeletionTimestamp != nil {
				t.Error("the pod is being deleted")
			}
		})
	}
}

func TestEvictionBudget(t *testing.T) {
	budget := func(name string, allowed int32) func(*testing.T, string) {
		return func(t *testing.T, ns string) {
			b := create(t, &policyv1.PodDisruptionBudget{
				ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
				Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
			})
			b.Status = policyv1.PodDisruptionBudgetStatus{
				ObservedGeneration: b.Generation, DisruptionsAllowed: allowed, CurrentHealthy: 1 + allowed, DesiredHealthy: 1, ExpectedPods: 1,
			}
			if err := admin.Status().Update(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := map[string]struct {
		budgets []func(*testing.T, string)
		code    int32
		made    int
	}{
		"refuses": {budgets: []func(*testing.T, string){budget("a", 0)}, code: 429},
		"two":     {budgets: []func(*testing.T, string){budget("a", 1), budget("b", 1)}, code: 500},
		"allows":  {budgets: []func(*testing.T, string){budget("a", 1)}, made: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, nil)
			pod := runPod(t, newPod(ns))
			for _, b := range tc.budgets {
				b(t, ns)
			}
			ev := evictionOf(pod)
			ev.TypeMeta = metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"}
			evict := func() error {
				return clientset(t).CoreV1().RESTClient().Post().Namespace(ns).Resource("pods").Name(pod.Name).SubResource("eviction").
					MaxRetries(0).Body(ev).Do(t.Context()).Error()
			}
			agent(t, pod, v1alpha1.PhaseReady, "")
			var err error
			if tc.made > 0 {
				err = held(t, evict)
			} else {
				err = evict()
			}
			var code int32
			if status := apierrors.APIStatus(nil); errors.As(err, &status) {
				code = status.Status().Code
			}
			if code != tc.code {
				t.Errorf("error = %v, want code %d", err, tc.code)
			}
			if n := len(checkpoints(t, ns)); n != tc.made {
				t.Errorf("%d PodCheckpoints, want %d", n, tc.made)
			}
		})
	}
}

func TestEvictionCold(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*corev1.Pod)
		run    func(*testing.T, *corev1.Pod)
		reason string
		why    string
	}{
		"failed": {
			change: func(*corev1.Pod) {}, reason: "EvictedCold", why: "criu: unsupported socket",
			run: func(t *testing.T, p *corev1.Pod) { agent(t, p, v1alpha1.PhaseFailed, "criu: unsupported socket") },
		},
		"no agent answers": {change: func(*corev1.Pod) {}, reason: "EvictedCold", why: "did not answer within 4s"},
		"host network": {
			change: func(p *corev1.Pod) { p.Spec.HostNetwork = true }, reason: "NotCheckpointable", why: "it uses the host's network",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, nil)
			pod := runPod(t, newPod(ns, tc.change))
			if tc.run != nil {
				tc.run(t, pod)
			}
			within(t, 20*time.Second, "the eviction is let through", func() bool {
				err := clientset(t).CoreV1().Pods(ns).EvictV1(t.Context(), evictionOf(pod))
				if err != nil && !apierrors.IsTooManyRequests(err) {
					t.Fatal(err)
				}
				return err == nil
			})
			if got := getPod(t, pod); ptr.Deref(got.DeletionGracePeriodSeconds, -1) != 30 {
				t.Errorf("grace = %v, want the pod's own", got.DeletionGracePeriodSeconds)
			}
			within(t, 10*time.Second, "an event "+tc.reason, func() bool {
				var list eventsv1.EventList
				if err := admin.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
					t.Fatal(err)
				}
				for _, e := range list.Items {
					if e.Reason == tc.reason && e.Regarding.Kind == "Pod" && e.Regarding.UID == pod.UID && strings.Contains(e.Note, tc.why) {
						return true
					}
				}
				return false
			})
		})
	}
}

func TestEvictionOfOthers(t *testing.T) {
	tests := map[string]struct {
		labels map[string]string
		change func(*corev1.Pod)
		calls  int64
	}{
		"not annotated":      {change: plain, calls: 1},
		"excluded namespace": {labels: map[string]string{v1alpha1.LabelExclude: "true"}, change: func(*corev1.Pod) {}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, tc.labels)
			pod := runPod(t, newPod(ns, tc.change))
			before := calls[admission.PathEviction].Load()
			if err := clientset(t).CoreV1().Pods(ns).EvictV1(t.Context(), evictionOf(pod)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.calls, calls[admission.PathEviction].Load()-before); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if n := len(checkpoints(t, ns)); n != 0 {
				t.Errorf("%d PodCheckpoints", n)
			}
		})
	}
}

// TestEvictionWithTheWebhookDown points the configuration at a port where nobody listens.
func TestEvictionWithTheWebhookDown(t *testing.T) {
	ns := namespace(t, nil)
	pod := runPod(t, newPod(ns))
	takeDown(t, func(string) bool { return true })
	within(t, 10*time.Second, "the webhook is not called any more", func() bool {
		return create(t, newPod(ns), client.DryRunAll).Labels[v1alpha1.LabelEnabled] == ""
	})
	if err := clientset(t).CoreV1().Pods(ns).EvictV1(t.Context(), evictionOf(pod)); err != nil {
		t.Errorf("evicting: %v", err)
	}
	if getPod(t, pod).DeletionTimestamp == nil {
		t.Error("the pod is not being deleted")
	}
}
