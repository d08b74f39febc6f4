// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// creation is a request to make a pod.
type creation struct {
	// user is who asks, as the API server authenticated it.
	user authenticationv1.UserInfo
	// request tells requests apart.
	request string
	dryRun  bool
}

// claimant is a pod that looks for a checkpoint, with the user that makes it and the ID that its claim would have.
type claimant struct {
	pod  *corev1.Pod
	user string
	id   string
}

// Access tells what users were granted.
type Access interface {
	// MayClaim tells whether the user has the verb v1alpha1.VerbClaim on the namespace's PodCheckpoints.
	MayClaim(ctx context.Context, user authenticationv1.UserInfo, namespace string) (bool, error)
}

// Reviews asks the API server by a SubjectAccessReview for each answer.
type Reviews struct{ Writer Writer }

var _ Access = Reviews{}

// MayClaim implements Access.
func (r Reviews) MayClaim(ctx context.Context, user authenticationv1.UserInfo, namespace string) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for key, values := range user.Extra {
		extra[key] = authorizationv1.ExtraValue(values)
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, Groups: user.Groups, UID: user.UID, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: v1alpha1.VerbClaim, Group: v1alpha1.Group, Resource: "podcheckpoints",
		},
	}}
	if err := r.Writer.Create(ctx, review); err != nil {
		return false, fmt.Errorf("asking whether user %q may claim checkpoints in namespace %q: %w", user.Username, namespace, err)
	}
	return review.Status.Allowed, nil
}

// entitled tells whether the user's pods of that owner may start from checkpoints at all: what an owner wants is made by its controller, and
// whoever else makes pods in an owner's name has to be trusted with the memory of its processes. Only of others than Kubernetes' own controllers
// the API server is asked, and that only where there is something to claim.
func (h *PodCreate) entitled(ctx context.Context, owner *v1alpha1.Owner, user authenticationv1.UserInfo, namespace string) (bool, error) {
	if match.ByItsController(owner, user.Username) {
		return true, nil
	}
	if h.Access == nil || user.Username == "" {
		return false, nil
	}
	return h.Access.MayClaim(ctx, user, namespace)
}

// noteNotEntitled tells, on each checkpoint that was there for the pod, why it did not start from it.
func (h *PodCreate) noteNotEntitled(who claimant, owner *v1alpha1.Owner, candidates []v1alpha1.PodCheckpoint) {
	metrics.CountClaim(metrics.ClaimDenied)
	for i := range candidates {
		pc := &candidates[i]
		if h.passings.first(passing{checkpoint: client.ObjectKeyFromObject(pc), controller: owner.UID}) {
			checkpointPassedOver(h.Events, owner, pc, fmt.Sprintf(
				"it was made by %q, which may not claim checkpoints (grant it the verb %q on podcheckpoints: ClusterRole cryopod-claimer)",
				who.user, v1alpha1.VerbClaim))
		}
	}
}

// takes tells whether the checkpoint is one that the claimant's pod can be made to start from, and that is the work of the same user.
func (h *PodCreate) takes(who claimant, pc *v1alpha1.PodCheckpoint) bool {
	return match.SameCreator(pc, who.user) && inject.Restorable(who.pod, pc) && h.inPlace(pc)
}

// inPlace tells whether all images of the checkpoint are where those of its namespace belong. A status that names others was not written by
// an honest agent.
func (h *PodCreate) inPlace(pc *v1alpha1.PodCheckpoint) bool {
	if h.opts.Images == "" {
		return true
	}
	repository := h.opts.Images + "/" + pc.Namespace
	for i := range pc.Status.Containers {
		for _, image := range []string{pc.Status.Containers[i].ImageTag, pc.Status.Containers[i].Image} {
			rest, inside := strings.CutPrefix(image, repository)
			if image != "" && (!inside || !strings.HasPrefix(rest, ":") && !strings.HasPrefix(rest, "@")) {
				return false
			}
		}
	}
	return true
}
