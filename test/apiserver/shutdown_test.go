// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/apiserver"
)

// TestShutdownAnswersHeldEvictions ends a webhook server while it holds an eviction, and leaves the client of a second one.
func TestShutdownAnswersHeldEvictions(t *testing.T) {
	pod := runPod(t, newPod(namespace(t, nil)))
	agent(t, pod, v1alpha1.PhaseDumping, "")
	changes := &admission.Waiter{}
	handler := admission.NewEviction(admission.NewKeeper(admission.Dependencies{
		Live: admin, Cached: admin, Writer: admin, Events: &events.FakeRecorder{}, Clock: clock.RealClock{}, Changes: changes,
	}, admission.Options{Hold: time.Minute}))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	port := apiserver.FreePort(t)
	s := webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port, CertDir: hooks.LocalServingCertDir})
	s.Register(admission.PathEviction, &webhook.Admission{Handler: handler})
	ended := make(chan error, 1)
	go func() { ended <- s.Start(ctx) }()
	within(t, 10*time.Second, "the server has started", func() bool { return s.StartedChecker()(nil) == nil })

	raw, err := json.Marshal(evictionOf(pod))
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "review", Namespace: pod.Namespace, Name: pod.Name, Object: runtime.RawExtension{Raw: raw},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) + admission.PathEviction
	// The certificate is the test's own.
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	call := func(ctx context.Context) (*admissionv1.AdmissionReview, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := web.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		var review admissionv1.AdmissionReview
		return &review, json.NewDecoder(resp.Body).Decode(&review)
	}

	leaving, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := call(leaving); left <- err }()
	within(t, 10*time.Second, "the first eviction is held", func() bool { return changes.Len() == 1 })
	leave()
	if err := <-left; err == nil {
		t.Error("the call of the client that left has ended well")
	}
	within(t, 10*time.Second, "the eviction of the client that left is not held any more", func() bool { return changes.Len() == 0 })

	answers := make(chan *admissionv1.AdmissionReview, 1)
	go func() {
		review, err := call(t.Context())
		if err != nil {
			t.Errorf("calling: %v", err)
		}
		answers <- review
	}()
	within(t, 10*time.Second, "the second eviction is held", func() bool { return changes.Len() == 1 })
	cancel()
	review := <-answers
	if review == nil || review.Response == nil || review.Response.Allowed || review.Response.Result.Code != http.StatusTooManyRequests {
		t.Errorf("answer = %+v, want 429", review)
	}
	web.CloseIdleConnections()
	if err := <-ended; err != nil {
		t.Errorf("the server has ended: %v", err)
	}
}
