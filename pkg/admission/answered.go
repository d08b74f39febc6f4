// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// answered marks the Evictions that a handler lets through as answered, so that the API server asks no second time. Which it does where the
// first call met a replica that had just died: see the webhook evictions-again.checkpoint.io in the manifests.
type answered struct{ admission.Handler }

// Handle answers one request.
func (h answered) Handle(ctx context.Context, req admission.Request) admission.Response {
	resp := h.Handler.Handle(ctx, req)
	if !resp.Allowed {
		return resp
	}
	var ev policyv1.Eviction
	if err := json.Unmarshal(req.Object.Raw, &ev); err != nil {
		return resp
	}
	mark := jsonpatch.NewOperation("add", "/metadata/annotations", map[string]any{v1alpha1.AnnotationAnswered: "true"})
	if ev.Annotations != nil {
		mark = jsonpatch.NewOperation("add", "/metadata/annotations/"+strings.ReplaceAll(v1alpha1.AnnotationAnswered, "/", "~1"), "true")
	}
	resp.Patches = append(resp.Patches, mark)
	return resp
}
