// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/termination"
)

// TestNode applies the handler's patches to what the API server sent, twice: the API server may call again.
func TestNode(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const spot = "aws-node-termination-handler/spot-itn"
	const stamped = `{"cause":"aws-node-termination-handler/spot-itn","since":"2026-01-02T03:04:05Z","deadline":"2026-01-02T03:06:05Z"}`
	for name, tc := range map[string]struct {
		taints, annotations string
		want                string
	}{
		"the taint comes":                     {taints: spot, want: `{"checkpoint.io/notice":` + quoted(stamped) + `}`},
		"the taint comes, other annotations":  {taints: spot, annotations: `{"a":"b"}`, want: `{"a":"b","checkpoint.io/notice":` + quoted(stamped) + `}`},
		"the taint comes, empty annotations":  {taints: spot, annotations: `{}`, want: `{"checkpoint.io/notice":` + quoted(stamped) + `}`},
		"the taint comes, nonsense was there": {taints: spot, annotations: `{"checkpoint.io/notice":"x"}`, want: `{"checkpoint.io/notice":` + quoted(stamped) + `}`},
		"the taint goes":                      {annotations: `{"checkpoint.io/notice":` + quoted(stamped) + `}`, want: `{}`},
		"the taint goes, other annotations":   {annotations: `{"a":"b","checkpoint.io/notice":` + quoted(stamped) + `}`, want: `{"a":"b"}`},
		"another taint":                       {taints: "example.com/x", want: `null`},
	} {
		t.Run(name, func(t *testing.T) {
			node := `{"metadata":{"name":"node-1"},"spec":{}}`
			if tc.taints != "" {
				node = `{"metadata":{"name":"node-1"},"spec":{"taints":[{"key":"` + tc.taints + `","effect":"NoSchedule"}]}}`
			}
			if tc.annotations != "" {
				node = node[:len(`{"metadata":{`)] + `"annotations":` + tc.annotations + "," + node[len(`{"metadata":{`):]
			}
			h := admission.NewNode(termination.Defaults(), clocktesting.NewFakePassiveClock(now))
			sent := []byte(node)
			for range 2 {
				resp := h.Handle(context.Background(), ctrladmission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Object: runtime.RawExtension{Raw: sent}}})
				if !resp.Allowed {
					t.Fatalf("refused: %+v", resp.Result)
				}
				sent, _ = json.Marshal(applied(t, sent, resp))
			}
			var got corev1.Node
			if err := json.Unmarshal(sent, &got); err != nil {
				t.Fatal(err)
			}
			var want map[string]string
			if err := json.Unmarshal([]byte(tc.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.Annotations); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNodeUnreadable lets everything through that it can't read.
func TestNodeUnreadable(t *testing.T) {
	h := admission.NewNode(termination.Defaults(), clocktesting.NewFakePassiveClock(metav1.Now().Time))
	for _, raw := range []string{"", "x", `{"spec":7}`} {
		resp := h.Handle(context.Background(), ctrladmission.Request{AdmissionRequest: admissionv1.AdmissionRequest{Object: runtime.RawExtension{Raw: []byte(raw)}}})
		if !resp.Allowed || len(resp.Patches) > 0 {
			t.Errorf("%q: %+v", raw, resp)
		}
	}
	if v1alpha1.AnnotationNotice != "checkpoint.io/notice" {
		t.Error("the test names another annotation")
	}
}

func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}
