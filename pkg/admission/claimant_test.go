// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// grants is who may claim, and how often somebody asked.
type grants struct {
	may   map[string]bool
	err   error
	asked int
}

func (g *grants) MayClaim(_ context.Context, user authenticationv1.UserInfo, _ string) (bool, error) {
	g.asked++
	return g.may[user.Username], g.err
}

// TestClaimant has checkpoints that fit the pod in everything; who made the pods, and where the images are, decides.
func TestClaimant(t *testing.T) {
	const saved, cold, operator = "r/ns:web-a.main", "app:1", "system:serviceaccount:db:operator"
	by := func(user string) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) { pc.Status.Creator = user }
	}
	imageAt := func(ref string) func(*v1alpha1.PodCheckpoint) {
		return func(pc *v1alpha1.PodCheckpoint) { pc.Status.Containers[0].Image = ref }
	}
	tests := map[string]struct {
		user, kind string
		checkpoint []func(*v1alpha1.PodCheckpoint)
		grants     grants
		images     string
		image      string
		asked      int
	}{
		"its controller":                       {user: replicaSets, image: saved},
		"its controller made both":             {user: replicaSets, checkpoint: []func(*v1alpha1.PodCheckpoint){by(replicaSets)}, image: saved},
		"somebody forged the owner":            {user: "eve", image: cold, asked: 1},
		"somebody forged the owner of his own": {user: "eve", checkpoint: []func(*v1alpha1.PodCheckpoint){by("eve")}, image: cold, asked: 1},
		"the saved pod was forged":             {user: replicaSets, checkpoint: []func(*v1alpha1.PodCheckpoint){by("eve")}, image: cold},
		"nobody":                               {image: cold},
		"an operator without the verb":         {user: operator, kind: "Database", checkpoint: []func(*v1alpha1.PodCheckpoint){by(operator)}, image: cold, asked: 1},
		"an operator": {
			user: operator, kind: "Database", checkpoint: []func(*v1alpha1.PodCheckpoint){by(operator)},
			grants: grants{may: map[string]bool{operator: true}}, image: saved, asked: 1,
		},
		"an operator, of another one's pod": {
			user: operator, kind: "Database", checkpoint: []func(*v1alpha1.PodCheckpoint){by("other")},
			grants: grants{may: map[string]bool{operator: true}}, image: cold,
		},
		"nobody can tell":            {user: operator, kind: "Database", grants: grants{may: map[string]bool{operator: true}, err: errors.New("away")}, image: cold, asked: 1},
		"images where they belong":   {user: replicaSets, images: "r", checkpoint: []func(*v1alpha1.PodCheckpoint){imageAt("r/ns@sha256:aa")}, image: saved},
		"images of a namespace":      {user: replicaSets, images: "r", checkpoint: []func(*v1alpha1.PodCheckpoint){imageAt("r/ns2@sha256:aa")}, image: cold},
		"images of another registry": {user: replicaSets, images: "r", checkpoint: []func(*v1alpha1.PodCheckpoint){imageAt("eve.example/ns@sha256:aa")}, image: cold},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			owned := func(pc *v1alpha1.PodCheckpoint) {
				if tc.kind != "" {
					pc.Status.Owner.APIVersion, pc.Status.Owner.Kind = "db.example/v1", tc.kind
				}
			}
			w := newWorld(t, readyFrom("web-a", now.Add(-time.Minute), append(tc.checkpoint, owned)...))
			w.user, w.options.Images, w.deps.Access = tc.user, tc.images, &tc.grants
			pod := replacement(func(p *corev1.Pod) {
				if tc.kind != "" {
					p.OwnerReferences[0].APIVersion, p.OwnerReferences[0].Kind = "db.example/v1", tc.kind
				}
			})
			got := w.patched(pod, false)
			if got.Spec.Containers[0].Image != tc.image {
				t.Errorf("image = %q, want %q", got.Spec.Containers[0].Image, tc.image)
			}
			if claim := w.checkpoints()[0].Status.Claim; (claim != nil) != (tc.image == saved) || claim != nil && claim.User != tc.user {
				t.Errorf("claim = %+v", claim)
			}
			if tc.grants.asked != tc.asked {
				t.Errorf("asked %d times who may claim, want %d", tc.grants.asked, tc.asked)
			}
			if got.Annotations[v1alpha1.AnnotationCreator] != tc.user {
				t.Errorf("creator = %q", got.Annotations[v1alpha1.AnnotationCreator])
			}
		})
	}
}

func TestNotEntitledIsTold(t *testing.T) {
	w := newWorld(t, readyFrom("web-a", now))
	w.user = "eve"
	w.create(replacement(), false)
	want := `PodCheckpoint CheckpointPassedOver: A new pod of ReplicaSet "web" does not start from it: it was made by "eve", ` +
		`which may not claim checkpoints (grant it the verb "claim" on podcheckpoints: ClusterRole cryopod-claimer)`
	if all := strings.Join(w.events.all(), "\n"); !strings.HasPrefix(all, want) {
		t.Errorf("events %q, want %q", all, want)
	}
}

// TestClaimOfAMomentAgoIsCopied has somebody who may read pods copy the claim of one that was admitted a moment ago.
func TestClaimOfAMomentAgoIsCopied(t *testing.T) {
	w := newWorld(t, readyFrom("web-a", time.Now()))
	w.deps.Access = &grants{may: map[string]bool{}}
	genuine := w.patched(replacement(), false)
	if genuine.Annotations[v1alpha1.AnnotationClaim] == "" {
		t.Fatal("not claimed")
	}
	w.user = "eve"
	forged := w.patched(genuine, false)
	if _, left := forged.Annotations[v1alpha1.AnnotationClaim]; left || forged.Annotations[v1alpha1.AnnotationCreator] != "eve" {
		t.Errorf("annotations %v", forged.Annotations)
	}
}

var _ admission.Access = (*grants)(nil)
