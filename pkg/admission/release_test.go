// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"encoding/json"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func TestEvictionPatch(t *testing.T) {
	tests := map[string]struct {
		eviction string
		want     string
	}{
		"no options":   {eviction: `{}`, want: `{"gracePeriodSeconds":1,"preconditions":{"uid":"p1"}}`},
		"null options": {eviction: `{"deleteOptions":null}`, want: `{"gracePeriodSeconds":1,"preconditions":{"uid":"p1"}}`},
		"force":        {eviction: `{"deleteOptions":{"gracePeriodSeconds":0}}`, want: `{"gracePeriodSeconds":1,"preconditions":{"uid":"p1"}}`},
		"others stay": {
			eviction: `{"deleteOptions":{"gracePeriodSeconds":30,"propagationPolicy":"Foreground","preconditions":{"resourceVersion":"999"}}}`,
			want:     `{"gracePeriodSeconds":1,"propagationPolicy":"Foreground","preconditions":{"resourceVersion":"999","uid":"p1"}}`,
		},
		"null preconditions": {
			eviction: `{"deleteOptions":{"preconditions":null}}`, want: `{"gracePeriodSeconds":1,"preconditions":{"uid":"p1"}}`,
		},
		"own UID": {
			eviction: `{"deleteOptions":{"preconditions":{"uid":"p1"}}}`, want: `{"gracePeriodSeconds":1,"preconditions":{"uid":"p1"}}`,
		},
	}
	for name, tc := range tests {
		for _, version := range []string{"policy/v1", "policy/v1beta1"} {
			t.Run(name+" "+version, func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					pc := attempt(1, v1alpha1.PhaseReady, 0)
					pc.CreationTimestamp = metav1.Now()
					if err := w.api.Create(t.Context(), pc); err != nil {
						t.Fatal(err)
					}
					var ev map[string]any
					if err := json.Unmarshal([]byte(tc.eviction), &ev); err != nil {
						t.Fatal(err)
					}
					ev["apiVersion"], ev["kind"], ev["metadata"] = version, "Eviction", map[string]any{"name": "web-0"}
					got := patchedEviction(t, w, ev)
					var want any
					if err := json.Unmarshal([]byte(tc.want), &want); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, got["deleteOptions"]); diff != "" {
						t.Errorf("deleteOptions (-want +got):\n%s", diff)
					}
				}, running(), canCheckpoint())
			})
		}
	}
}

// patchedEviction is the eviction with the handler's answer applied to it.
func patchedEviction(t *testing.T, w *world, ev map[string]any) map[string]any {
	t.Helper()
	sent := raw(t, ev)
	var req ctrladmission.Request
	req.Namespace, req.Name, req.Object = "ns", "web-0", sent
	resp := w.evictions().Handle(t.Context(), req)
	return applied(t, sent.Raw, resp)
}

func applied(t *testing.T, sent []byte, resp ctrladmission.Response) map[string]any {
	t.Helper()
	if !resp.Allowed {
		t.Fatalf("not allowed: %+v", resp.Result)
	}
	ops, err := json.Marshal(resp.Patches)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(ops)
	if err != nil {
		t.Fatal(err)
	}
	text, err := patch.Apply(sent)
	if err != nil {
		t.Fatalf("applying %s: %v", ops, err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
