// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/apiserver"
)

// TestClusterScheduler runs a replica as the component cluster-scheduler has it: Cryopod's scheduler and a kube-scheduler in reserve stand for
// one Lease, which the component's rights let the webhook see.
func TestClusterScheduler(t *testing.T) {
	t.Parallel()
	c := start(t)
	args := c.install(t, "cluster-scheduler")
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-scheduler"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To("control-plane-1_8a2e"), LeaseDurationSeconds: ptr.To(int32(3600)), RenewTime: ptr.To(metav1.NowMicro()),
		},
	}
	c.create(t, lease)
	r := c.run(t, args...)
	r.awaitReady(t)

	if patch := r.admit(t); strings.Contains(patch, v1alpha1.SchedulerName) || !strings.Contains(patch, v1alpha1.AnnotationTemplateHash[len(v1alpha1.Group)+1:]) {
		t.Errorf("with a kube-scheduler that leads, an opted-in pod is changed by %s, want it opted in and its scheduler kept", patch)
	}
	lease.Spec.HolderIdentity = ptr.To("cryopod-scheduler-6b5f_9c41")
	if err := c.admin.Update(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	apiserver.Await(t, "pods to be sent to Cryopod's scheduler, which leads", func(context.Context) (string, bool, error) {
		patch := r.admit(t)
		return patch, strings.Contains(patch, fmt.Sprintf("%q", v1alpha1.SchedulerName)), nil
	})
}

// install applies the manifests with a component, and returns the arguments that the webhook has by that.
func (c *cluster) install(t *testing.T, component string) []string {
	t.Helper()
	dir := t.TempDir()
	manifests, err := filepath.Rel(dir, filepath.Join(c.Checkout, "manifests"))
	if err != nil {
		t.Fatal(err)
	}
	overlay := fmt.Sprintf(`
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [%[1]s]
components: [%[1]s/components/%[2]s]
`, manifests, component)
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(overlay), 0o600); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "apply", "--server-side", "--force-conflicts", "-k", dir)
	var deployment appsv1.Deployment
	if err := c.admin.Get(t.Context(), client.ObjectKey{Namespace: "cryopod-system", Name: "cryopod-webhook"}, &deployment); err != nil {
		t.Fatal(err)
	}
	return deployment.Spec.Template.Spec.Containers[0].Args
}

// admit has the replica look at a new pod that is opted in, and returns the JSON patch.
func (r *replica) admit(t *testing.T) string {
	t.Helper()
	pod, err := json.Marshal(&corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cart", Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"}},
		Spec:       corev1.PodSpec{SchedulerName: corev1.DefaultSchedulerName, Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	review, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "review", Namespace: "default", Name: "cart", Operation: admissionv1.Create, DryRun: ptr.To(true),
			Kind:     metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			UserInfo: authenticationv1.UserInfo{Username: "system:serviceaccount:kube-system:replicaset-controller"},
			Object:   runtime.RawExtension{Raw: pod},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	// Who answers is known by the port; TestWebhook looks at the certificate.
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer h.CloseIdleConnections()
	response, err := h.Post(fmt.Sprintf("https://127.0.0.1:%d%s", r.port, admission.PathPod), "application/json", bytes.NewReader(review))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer admissionv1.AdmissionReview
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatalf("reading the answer, status %s: %v", response.Status, err)
	}
	if answer.Response == nil || !answer.Response.Allowed {
		t.Fatalf("got the answer %+v, want the pod allowed", answer.Response)
	}
	return string(answer.Response.Patch)
}
