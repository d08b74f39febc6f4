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
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// TestClusterScheduler runs a replica as the component cluster-scheduler has it: Cryopod's scheduler and a kube-scheduler in reserve stand for
// one Lease, which the component's rights let the webhook see.
func TestClusterScheduler(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.kubectl(t, "apply", "--server-side", "-f", filepath.Join(c.Checkout, "manifests", "components", "cluster-scheduler", "rbac.yaml"))
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-scheduler"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To("control-plane-1_8a2e"), LeaseDurationSeconds: ptr.To(int32(3600)), RenewTime: ptr.To(metav1.NowMicro()),
		},
	}
	c.create(t, lease)
	r := c.run(t, "--scheduler-lease=kube-system/kube-scheduler", "--scheduler-holder=cryopod-scheduler-")
	r.awaitReady(t)

	if patch := r.admit(t); strings.Contains(patch, v1alpha1.SchedulerName) || !strings.Contains(patch, v1alpha1.AnnotationTemplateHash[len(v1alpha1.Group)+1:]) {
		t.Errorf("with a kube-scheduler that leads, an opted-in pod is changed by %s, want it opted in and its scheduler kept", patch)
	}
	lease.Spec.HolderIdentity = ptr.To("cryopod-scheduler-6b5f_9c41")
	if err := c.admin.Update(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	await(t, "pods to be sent to Cryopod's scheduler, which leads", func(context.Context) (string, bool, error) {
		patch := r.admit(t)
		return patch, strings.Contains(patch, fmt.Sprintf("%q", v1alpha1.SchedulerName)), nil
	})
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
