// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// replicaSets is the user of Kubernetes' controller of ReplicaSets.
const replicaSets = "system:serviceaccount:kube-system:replicaset-controller"

// world is the handlers with an API server that is a fake, a clock that the test's bubble drives, and what they did.
type world struct {
	t       *testing.T
	api     client.WithWatch
	deps    admission.Dependencies
	options admission.Options
	// user makes the pods.
	user   string
	events *recorder
	// before is called before each call of the API; an error ends the call with it.
	before func(verb string, obj client.Object) error
	// deleted is called with the options of each deletion, unless it is nil.
	deleted func(opts ...client.DeleteOption)

	mu    sync.Mutex
	calls []string
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, user: replicaSets, events: &recorder{}, before: func(string, client.Object) error { return nil }}
	w.api = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.PodCheckpoint{}).Build()
	live := interceptor.NewClient(w.api, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			verb := "get"
			if o := (&client.GetOptions{}).ApplyOptions(opts); o.Raw != nil && o.Raw.ResourceVersion == "0" {
				verb = "get any"
			}
			if err := w.call(verb, obj); err != nil {
				return err
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if err := w.call("create", obj); err != nil {
				return err
			}
			obj.SetCreationTimestamp(metav1.NewTime(clock.RealClock{}.Now()))
			return c.Create(ctx, obj, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			if err := w.call("delete", obj); err != nil {
				return err
			}
			if w.deleted != nil {
				w.deleted(opts...)
			}
			return c.Delete(ctx, obj, opts...)
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, obj client.Object, opts ...client.SubResourceUpdateOption) error {
			if err := w.call("update "+sub, obj); err != nil {
				return err
			}
			return c.SubResource(sub).Update(ctx, obj, opts...)
		},
	})
	// As the program's: of the pods, those that were opted in.
	cached := interceptor.NewClient(w.api, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			err := c.Get(ctx, key, obj, opts...)
			if pod, is := obj.(*corev1.Pod); is && err == nil && pod.Labels[v1alpha1.LabelEnabled] != "true" {
				return apierrors.NewNotFound(corev1.Resource("pods"), key.Name)
			}
			return err
		},
	})
	w.deps = admission.Dependencies{
		Live: live, Cached: cached, Writer: live, Events: w.events, Clock: clock.RealClock{}, Changes: &admission.Waiter{},
	}
	return w
}

func (w *world) call(verb string, obj client.Object) error {
	w.mu.Lock()
	w.calls = append(w.calls, fmt.Sprintf("%s %s", verb, strings.TrimPrefix(typeOf(obj), "*")))
	w.mu.Unlock()
	return w.before(verb, obj)
}

func typeOf(obj client.Object) string { return fmt.Sprintf("%T", obj) }

// count is how many calls of the API began with the words.
func (w *world) count(words string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		if strings.HasPrefix(c, words) {
			n++
		}
	}
	return n
}

func (w *world) checkpoints() []v1alpha1.PodCheckpoint {
	w.t.Helper()
	var list v1alpha1.PodCheckpointList
	if err := w.api.List(w.t.Context(), &list); err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}

// change does what an agent would: it writes the checkpoint's status, and the informer tells.
func (w *world) change(name string, change func(*v1alpha1.PodCheckpoint)) {
	w.t.Helper()
	var pc v1alpha1.PodCheckpoint
	if err := w.api.Get(w.t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, &pc); err != nil {
		w.t.Fatal(err)
	}
	change(&pc)
	if err := w.api.Status().Update(w.t.Context(), &pc); err != nil {
		w.t.Fatal(err)
	}
	w.deps.Changes.OnUpdate(nil, &pc)
}

func (w *world) evictions() *admission.Eviction {
	return admission.NewEviction(admission.NewKeeper(w.deps, w.options))
}

func (w *world) evict(ctx context.Context, ev policyv1.Eviction, dryRun bool) ctrladmission.Response {
	return w.evictWith(ctx, w.evictions(), ev, dryRun)
}

func (w *world) evictWith(ctx context.Context, h *admission.Eviction, ev policyv1.Eviction, dryRun bool) ctrladmission.Response {
	return h.Handle(ctx, ctrladmission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Namespace: "ns", Name: ev.Name, DryRun: &dryRun, Object: raw(w.t, ev),
	}})
}

func (w *world) create(pod *corev1.Pod, dryRun bool) ctrladmission.Response {
	return w.createBy("request", pod, dryRun)
}

func (w *world) createBy(request types.UID, pod *corev1.Pod, dryRun bool) ctrladmission.Response {
	n := 0
	return w.createWith(admission.NewPodCreate(w.deps, w.options, func() string { n++; return fmt.Sprintf("id-%d", n) }), request, pod, dryRun)
}

func (w *world) createWith(h *admission.PodCreate, request types.UID, pod *corev1.Pod, dryRun bool) ctrladmission.Response {
	return h.Handle(w.t.Context(), ctrladmission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: request, Namespace: "ns", DryRun: &dryRun, Object: raw(w.t, pod), UserInfo: authenticationv1.UserInfo{Username: w.user},
	}})
}

func raw(t *testing.T, obj any) runtime.RawExtension {
	t.Helper()
	text, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return runtime.RawExtension{Raw: text}
}

func phaseTo(phase v1alpha1.Phase, message string) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) { pc.Status.Phase, pc.Status.Message = phase, message }
}

// bubble runs the test with a clock of its own, which moves on whenever everything waits.
func bubble(t *testing.T, test func(t *testing.T, w *world), objects ...client.Object) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, objects...)) })
}

// held starts an eviction and returns once it is held.
func (w *world) held(ctx context.Context, h *admission.Eviction) <-chan ctrladmission.Response {
	out := make(chan ctrladmission.Response, 1)
	go func() { out <- w.evictWith(ctx, h, eviction(), false) }()
	synctest.Wait()
	select {
	case r := <-out:
		w.t.Fatalf("the eviction was answered at once: %+v", r)
	default:
	}
	return out
}

func eviction() policyv1.Eviction {
	return policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web-0"}}
}

// recorder keeps events as "Kind Reason: note".
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (r *recorder) Eventf(regarding, _ runtime.Object, _, reason, _, note string, args ...any) {
	kind := regarding.GetObjectKind().GroupVersionKind().Kind
	if kind == "" {
		kind = fmt.Sprintf("%T", regarding)
		kind = kind[strings.LastIndexByte(kind, '.')+1:]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, fmt.Sprintf("%s %s: %s", kind, reason, fmt.Sprintf(note, args...)))
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.seen...)
}

// failures is how many checkpoints for evictions are counted as failed.
func failures(t *testing.T) (n float64) {
	t.Helper()
	families, err := ctrlmetrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "cryopod_checkpoint_checkpoints_total" && labels["reason"] == "Eviction" && labels["outcome"] == "failed" {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// deletions is how many deletions are counted as saved.
func deletions(t *testing.T) (n float64) {
	t.Helper()
	families, err := ctrlmetrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "cryopod_eviction_deletions_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "decision" && l.GetValue() == "saved" {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

func request(obj runtime.RawExtension) ctrladmission.Request {
	return ctrladmission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Namespace: "ns", Object: obj, UserInfo: authenticationv1.UserInfo{Username: replicaSets},
	}}
}

func annotate(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func podPhase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}

func precondition(uid types.UID) func(*admission.Case) {
	return func(c *admission.Case) {
		c.Delete = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
	}
}

// budget is a PodDisruptionBudget over the pods of running().
func budget(allowed, current, desired int32, changes ...func(*policyv1.PodDisruptionBudget)) policyv1.PodDisruptionBudget {
	b := policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
		Status: policyv1.PodDisruptionBudgetStatus{
			DisruptionsAllowed: allowed, CurrentHealthy: current, DesiredHealthy: desired,
		},
	}
	for _, c := range changes {
		c(&b)
	}
	return b
}
