// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/log"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/termination"
)

// handlers are the webhook's, by their paths, over an API server with nothing in it.
func handlers(f *testing.F) map[string]http.Handler {
	f.Helper()
	log.SetLogger(logr.Discard())
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			f.Fatal(err)
		}
	}
	api := fake.NewClientBuilder().WithScheme(scheme).Build()
	deps := admission.Dependencies{Live: api, Cached: api, Writer: api, Events: &recorder{}, Clock: clock.RealClock{}, Changes: &admission.Waiter{}}
	options := admission.Options{Hold: time.Millisecond, PreemptionHold: time.Millisecond, Responder: true}
	keeper := admission.NewKeeper(deps, options)
	at := clocktesting.NewFakePassiveClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	return map[string]http.Handler{
		admission.PathPod:      &ctrladmission.Webhook{Handler: admission.NewPodCreate(deps, options, func() string { return "id" })},
		admission.PathEviction: &ctrladmission.Webhook{Handler: admission.NewEviction(keeper)},
		admission.PathDelete:   &ctrladmission.Webhook{Handler: admission.NewDelete(keeper)},
		admission.PathNode:     &ctrladmission.Webhook{Handler: admission.NewNode(termination.Defaults(), at)},
	}
}

// review is a request as the API server sends it.
func review(request admissionv1.AdmissionRequest) []byte {
	request.UID = "u"
	// The API's types always encode.
	raw, _ := json.Marshal(admissionv1.AdmissionReview{Request: &request})
	return bytes.Replace(raw, []byte(`{`), []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1",`), 1)
}

// post sends a body to a handler, with little time.
func post(t *testing.T, h http.Handler, body []byte) (code int, answer admissionv1.AdmissionReview) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Response == nil {
		t.Fatalf("answered %d %q: %v", w.Code, w.Body, err)
	}
	return w.Code, answer
}

var podSeeds = []string{
	`{"metadata":{"name":"a","annotations":{"checkpoint.io/enabled":"true"}},"spec":{"containers":[{"name":"a","image":"b"}]}}`,
	`{"metadata":{"generateName":"a-","annotations":{"checkpoint.io/enabled":"true","checkpoint.io/restore-from":"x","checkpoint.io/claim":"y",` +
		`"checkpoint.io/base-images":"{\"a\":\"c\"}"}},"spec":{"containers":[{"name":"a"}]}}`,
	`{"metadata":{"name":"a","annotations":{"checkpoint.io/enabled":"true"},"ownerReferences":[{"controller":true,"kind":"ReplicaSet","uid":"1"}]},` +
		`"spec":{"containers":[{"name":"a","env":[{"name":"GODEBUG"}]}],"tolerations":[{"operator":"Exists"}]}}`,
	`{"spec":null}`, `null`, `[]`, `{"metadata":{"annotations":{"checkpoint.io/enabled":1}}}`,
}

// FuzzReview: whatever is sent to a webhook, the answer is a review, and nothing that can't be read stops anybody.
func FuzzReview(f *testing.F) {
	all := handlers(f)
	paths := []string{admission.PathPod, admission.PathEviction, admission.PathDelete, admission.PathNode}
	for i, pod := range podSeeds {
		f.Add(byte(i), review(admissionv1.AdmissionRequest{Namespace: "ns", Name: "a", Object: runtime.RawExtension{Raw: []byte(pod)}}))
		f.Add(byte(2), review(admissionv1.AdmissionRequest{Namespace: "ns", Name: "a", OldObject: runtime.RawExtension{Raw: []byte(pod)}}))
	}
	f.Add(byte(0), []byte("{}"))
	f.Add(byte(1), []byte(`{"request":{}}`))
	f.Add(byte(2), []byte(`{"request":{"uid":"x","options":[]}}`))
	f.Add(byte(3), []byte(""))
	f.Fuzz(func(t *testing.T, which byte, body []byte) {
		code, answer := post(t, all[paths[int(which)%len(paths)]], body)
		if code != http.StatusOK {
			t.Errorf("answered %d", code)
		}
		var sent admissionv1.AdmissionReview
		if r := answer.Response; json.Unmarshal(body, &sent) == nil && sent.Request != nil && !r.Allowed && r.Result != nil && r.Result.Code >= 500 {
			t.Errorf("refused with %+v", r.Result)
		}
	})
}

// FuzzPodReview: whatever the pod, it is let in, and what is changed can be applied and is not changed again.
func FuzzPodReview(f *testing.F) {
	h := handlers(f)[admission.PathPod]
	for _, pod := range podSeeds {
		f.Add([]byte(pod), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, dryRun bool) {
		var pod corev1.Pod
		if json.Unmarshal(raw, &pod) != nil {
			return
		}
		// The API server sends what it has read and written again.
		sent, err := json.Marshal(&pod)
		if err != nil {
			return
		}
		send := func(pod []byte) (patch []byte) {
			_, answer := post(t, h, review(admissionv1.AdmissionRequest{
				Namespace: "ns", DryRun: &dryRun, Object: runtime.RawExtension{Raw: pod},
			}))
			if !answer.Response.Allowed || answer.Response.UID != types.UID("u") {
				t.Fatalf("refused: %+v", answer.Response)
			}
			return answer.Response.Patch
		}
		patch := send(sent)
		if len(patch) == 0 {
			return
		}
		decoded, err := jsonpatch.DecodePatch(patch)
		if err != nil {
			t.Fatal(err)
		}
		changed, err := decoded.Apply(sent)
		if err != nil {
			t.Fatalf("applying %s to %s: %v", patch, sent, err)
		}
		if again := send(changed); len(again) > 0 && string(again) != "[]" {
			t.Errorf("changed again: %s", again)
		}
	})
}

// FuzzNodeReview: whatever the node, it is let through, and what is changed is one annotation of ours.
func FuzzNodeReview(f *testing.F) {
	h := handlers(f)[admission.PathNode]
	f.Add([]byte(`{"spec":{"taints":[{"key":"aws-node-termination-handler/spot-itn","effect":"NoSchedule"}]}}`))
	f.Add([]byte(`{"metadata":{"annotations":{"checkpoint.io/notice":"{}"}}}`))
	f.Add([]byte(`{"metadata":{"annotations":{"checkpoint.io/notice":"{\"cause\":\"a\",\"since\":\"9999-12-31T23:30:00-23:59\"}"}},"spec":{"unschedulable":true}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) {
			return
		}
		_, answer := post(t, h, review(admissionv1.AdmissionRequest{Name: "n", Object: runtime.RawExtension{Raw: raw}}))
		if !answer.Response.Allowed {
			t.Fatalf("refused: %+v", answer.Response)
		}
		var operations []struct{ Path string }
		if len(answer.Response.Patch) > 0 {
			if err := json.Unmarshal(answer.Response.Patch, &operations); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range operations {
			if len(operations) > 1 || o.Path != "/metadata/annotations" && o.Path != "/metadata/annotations/checkpoint.io~1notice" {
				t.Errorf("patch %s", answer.Response.Patch)
			}
		}
	})
}
