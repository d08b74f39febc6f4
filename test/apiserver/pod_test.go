// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const injectorPath = "/inject-sidecar"

// injector stands for the webhook of a service mesh: it runs after Cryopod's and adds a container, so that the API server calls
// Cryopod's once more.
func injector() ctrladmission.Handler {
	return ctrladmission.HandlerFunc(func(_ context.Context, req ctrladmission.Request) ctrladmission.Response {
		var pod corev1.Pod
		if err := json.Unmarshal(req.Object.Raw, &pod); err != nil {
			return ctrladmission.Errored(400, err)
		}
		if len(pod.Spec.Containers) > 1 {
			return ctrladmission.Allowed("")
		}
		return ctrladmission.Patched("", jsonpatch.NewOperation("add", "/spec/containers/-", map[string]any{
			"name": "mesh", "image": "registry.test/mesh:1",
		}))
	})
}

func TestPodOptIn(t *testing.T) {
	ns := namespace(t, nil)
	got := create(t, newPod(ns))
	if got.Spec.SchedulerName != v1alpha1.SchedulerName {
		t.Errorf("scheduler = %q", got.Spec.SchedulerName)
	}
	if got.Annotations[v1alpha1.AnnotationTemplateHash] == "" || got.Labels[v1alpha1.LabelEnabled] != "true" {
		t.Errorf("annotations %v, labels %v", got.Annotations, got.Labels)
	}
	want := []corev1.EnvVar{{Name: "GODEBUG", Value: "multipathtcp=0"}, {Name: "UV_USE_IO_URING", Value: "0"}}
	if diff := cmp.Diff(want, got.Spec.Containers[0].Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if p := got.Spec.SecurityContext.SeccompProfile; p == nil || p.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("seccomp profile = %v", p)
	}
}

func TestPodsOfOthersMakeNoCall(t *testing.T) {
	tests := map[string]struct {
		labels map[string]string
		change func(*corev1.Pod)
		calls  int64
	}{
		"not annotated":       {change: plain},
		"no annotations":      {change: func(p *corev1.Pod) { p.Annotations, p.Labels = nil, nil }},
		"annotated false":     {change: annotated(v1alpha1.AnnotationEnabled, "false")},
		"excluded namespace":  {labels: map[string]string{v1alpha1.LabelExclude: "true"}, change: func(*corev1.Pod) {}},
		"annotated":           {change: func(*corev1.Pod) {}, calls: 1},
		"not quite excluded":  {labels: map[string]string{v1alpha1.LabelExclude: "false"}, change: func(*corev1.Pod) {}, calls: 1},
		"forged restore-from": {change: func(p *corev1.Pod) { plain(p); p.Annotations[v1alpha1.AnnotationRestoreFrom] = "x" }, calls: 1},
		"forged claim":        {change: func(p *corev1.Pod) { plain(p); p.Annotations[v1alpha1.AnnotationClaim] = "x" }, calls: 1},
		"forged label":        {change: func(p *corev1.Pod) { plain(p); p.Labels[v1alpha1.LabelRestoring] = "true" }, calls: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, tc.labels)
			before := calls[admission.PathPod].Load()
			got := create(t, newPod(ns, tc.change))
			if n := calls[admission.PathPod].Load() - before; n != tc.calls {
				t.Errorf("%d calls, want %d", n, tc.calls)
			}
			_, from := got.Annotations[v1alpha1.AnnotationRestoreFrom]
			_, claim := got.Annotations[v1alpha1.AnnotationClaim]
			if from || claim || got.Labels[v1alpha1.LabelRestoring] != "" {
				t.Errorf("forged keys are left: %v %v", got.Annotations, got.Labels)
			}
		})
	}
	t.Run("kube-system", func(t *testing.T) {
		before := calls[admission.PathPod].Load()
		create(t, newPod("kube-system"))
		if n := calls[admission.PathPod].Load() - before; n != 0 {
			t.Errorf("%d calls", n)
		}
	})
}

// saved makes a Ready checkpoint whose pod is gone.
func saved(t *testing.T, ns string) *v1alpha1.PodCheckpoint {
	t.Helper()
	pod := runPod(t, newPod(ns))
	agent(t, pod, v1alpha1.PhaseReady, "")
	if err := held(t, func() error { return clientset(t).CoreV1().Pods(ns).EvictV1(t.Context(), evictionOf(pod)) }); err != nil {
		t.Fatal(err)
	}
	if err := admin.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	pcs := checkpoints(t, ns)
	return &pcs[len(pcs)-1]
}

func TestPodRestore(t *testing.T) {
	ns := namespace(t, nil)
	pc := saved(t, ns)

	dry := create(t, newPod(ns), client.DryRunAll)
	if dry.Labels[v1alpha1.LabelRestoring] != "" || checkpoints(t, ns)[0].Status.Phase != v1alpha1.PhaseReady {
		t.Errorf("a dry run claims: labels %v, phase %s", dry.Labels, checkpoints(t, ns)[0].Status.Phase)
	}

	got := create(t, newPod(ns))
	if got.Spec.Containers[0].Image != pc.Status.Containers[0].ImageTag {
		t.Errorf("image = %q, want %q", got.Spec.Containers[0].Image, pc.Status.Containers[0].ImageTag)
	}
	var images []string
	for _, v := range got.Spec.Volumes {
		images = append(images, v.Image.Reference)
	}
	if diff := cmp.Diff([]string{pc.Status.Containers[0].BaseImageDigest}, images); diff != "" {
		t.Errorf("image volumes (-want +got):\n%s", diff)
	}
	now := checkpoints(t, ns)[0]
	if now.Status.Phase != v1alpha1.PhaseClaimed || now.Status.Claim == nil || now.Status.Claim.ID != got.Annotations[v1alpha1.AnnotationClaim] {
		t.Errorf("status = %+v, the pod's claim %q", now.Status, got.Annotations[v1alpha1.AnnotationClaim])
	}

	next := create(t, newPod(ns))
	if next.Spec.Containers[0].Image != "registry.test/app:1" {
		t.Errorf("a second pod starts from %q", next.Spec.Containers[0].Image)
	}
}

// hookOf makes a mutating webhook of another product, for pods of namespaces with the label, that is asked after Cryopod's.
func hookOf(t *testing.T, label, path string) {
	t.Helper()
	hook := &admissionregv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "zz-" + label},
		Webhooks: []admissionregv1.MutatingWebhook{{
			Name: label + ".registry.test", AdmissionReviewVersions: []string{"v1"}, SideEffects: ptr.To(admissionregv1.SideEffectClassNone),
			ReinvocationPolicy: ptr.To(admissionregv1.IfNeededReinvocationPolicy),
			NamespaceSelector:  &metav1.LabelSelector{MatchLabels: map[string]string{label: "true"}},
			ClientConfig: admissionregv1.WebhookClientConfig{
				URL: ptr.To("https://" + net.JoinHostPort(hooks.LocalServingHost, strconv.Itoa(hooks.LocalServingPort)) + path), CABundle: hooks.LocalServingCAData,
			},
			Rules: []admissionregv1.RuleWithOperations{{
				Operations: []admissionregv1.OperationType{admissionregv1.Create},
				Rule:       admissionregv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
	create(t, hook)
	t.Cleanup(func() {
		if err := admin.Delete(context.Background(), hook); err != nil {
			t.Error(err)
		}
	})
}

func TestPodReinvocation(t *testing.T) {
	ns := namespace(t, map[string]string{"mesh": "true"})
	hookOf(t, "mesh", injectorPath)
	within(t, 10*time.Second, "the injector is in effect", func() bool {
		return len(create(t, newPod(ns, plain), client.DryRunAll).Spec.Containers) == 2
	})
	pc := saved(t, ns)
	before := calls[admission.PathPod].Load()
	got := create(t, newPod(ns))
	if n := calls[admission.PathPod].Load() - before; n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
	if got.Spec.Containers[0].Image != pc.Status.Containers[0].ImageTag || len(got.Spec.Volumes) != 1 {
		t.Errorf("image %q, %d volumes", got.Spec.Containers[0].Image, len(got.Spec.Volumes))
	}
	if claim := checkpoints(t, ns)[0].Status.Claim; claim == nil || claim.ID != got.Annotations[v1alpha1.AnnotationClaim] {
		t.Errorf("claim = %+v, that of the pod %q", claim, got.Annotations[v1alpha1.AnnotationClaim])
	}
}

// TestPodClaimOnce lets two replicas of the webhook claim one checkpoint for many pods at once.
func TestPodClaimOnce(t *testing.T) {
	ns := namespace(t, nil)
	saved(t, ns)
	var replicas []*admission.PodCreate
	for r := range 2 {
		c, err := server.Client()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		var mu sync.Mutex
		replicas = append(replicas, admission.NewPodCreate(admission.Dependencies{
			Live: c, Cached: c, Writer: c, Events: &events.FakeRecorder{}, Clock: clock.RealClock{}, Changes: &admission.Waiter{},
		}, admission.Options{}, func() string {
			mu.Lock()
			defer mu.Unlock()
			n++
			return fmt.Sprintf("replica-%d-%d", r, n)
		}))
	}
	text, err := json.Marshal(newPod(ns))
	if err != nil {
		t.Fatal(err)
	}
	req := ctrladmission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		Namespace: ns, Object: runtime.RawExtension{Raw: text},
		UserInfo: authenticationv1.UserInfo{Username: "system:serviceaccount:kube-system:replicaset-controller"},
	}}
	var wg sync.WaitGroup
	claims := make(chan string, 20)
	for i := range cap(claims) {
		wg.Go(func() {
			for _, p := range replicas[i%2].Handle(t.Context(), req).Patches {
				if p.Path == "/metadata/annotations/checkpoint.io~1claim" {
					claims <- p.Value.(string)
				}
			}
		})
	}
	wg.Wait()
	close(claims)
	var won []string
	for id := range claims {
		won = append(won, id)
	}
	if claim := checkpoints(t, ns)[0].Status.Claim; claim == nil || len(won) != 1 || won[0] != claim.ID {
		t.Errorf("pods with the claims %q, the checkpoint has %+v", won, claim)
	}
}
