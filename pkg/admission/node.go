// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/termination"
)

// PathNode is the path of the webhook for nodes, as the MutatingWebhookConfiguration names it.
const PathNode = "/mutate-node"

// Node answers UPDATE of nodes: a termination taint that comes or goes puts or removes v1alpha1.AnnotationNotice in the very same
// request. It looks at nothing but the node and the clock, and does nothing else. What fails lets the node through as it came; the
// evacuation controller finds it.
type Node struct {
	taints termination.List
	clock  clock.PassiveClock
}

var _ admission.Handler = (*Node)(nil)

// NewNode makes the handler.
func NewNode(taints termination.List, clk clock.PassiveClock) *Node {
	return &Node{taints: taints, clock: clk}
}

// SetupNodes registers the handler on the manager's webhook server; it answers on every replica.
func SetupNodes(mgr manager.Manager, taints termination.List) {
	mgr.GetWebhookServer().Register(PathNode, &admission.Webhook{Handler: NewNode(taints, clock.RealClock{})})
}

// Handle answers one request.
func (h *Node) Handle(ctx context.Context, req admission.Request) admission.Response {
	node, err := nodeIn(req.Object.Raw)
	if err != nil {
		logf.FromContext(ctx).Error(err, "Letting a node through that can't be decoded", "node", req.Name)
		return admission.Allowed("")
	}
	resp := admission.Allowed("")
	resp.Patches = stampNode(node, h.taints, h.clock.Now())
	return resp
}

// nodeIn decodes what this handler looks at. The images of its status, which are most of a node, are passed over.
func nodeIn(raw []byte) (*corev1.Node, error) {
	var seen struct {
		Metadata metav1.ObjectMeta `json:"metadata"`
		Spec     corev1.NodeSpec   `json:"spec"`
	}
	if err := json.Unmarshal(raw, &seen); err != nil {
		return nil, err
	}
	return &corev1.Node{ObjectMeta: seen.Metadata, Spec: seen.Spec}, nil
}

// stampNode is what makes the node's annotation say what its taints announce.
func stampNode(node *corev1.Node, taints termination.List, now time.Time) []jsonpatch.Operation {
	const annotations = "/metadata/annotations"
	path := annotations + "/" + strings.ReplaceAll(v1alpha1.AnnotationNotice, "/", "~1")
	value, change := taints.Stamp(node, now)
	switch {
	case !change:
		return nil
	case value == "":
		return []jsonpatch.Operation{jsonpatch.NewOperation("remove", path, nil)}
	case node.Annotations == nil:
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", annotations, map[string]string{v1alpha1.AnnotationNotice: value})}
	}
	return []jsonpatch.Operation{jsonpatch.NewOperation("add", path, value)}
}
