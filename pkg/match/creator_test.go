// SPDX-License-Identifier: Apache-2.0

package match_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

func TestByItsController(t *testing.T) {
	const account = "system:serviceaccount:kube-system:"
	tests := map[string]struct {
		version, kind, user string
		want                bool
	}{
		"ReplicaSet":                          {"apps/v1", "ReplicaSet", account + "replicaset-controller", true},
		"StatefulSet":                         {"apps/v1", "StatefulSet", account + "statefulset-controller", true},
		"Job":                                 {"batch/v1", "Job", account + "job-controller", true},
		"ReplicationController":               {"v1", "ReplicationController", account + "replication-controller", true},
		"controllers with one user":           {"apps/v1", "ReplicaSet", "system:kube-controller-manager", true},
		"another controller's user":           {"apps/v1", "ReplicaSet", account + "job-controller", false},
		"an account of that name elsewhere":   {"apps/v1", "ReplicaSet", "system:serviceaccount:team:replicaset-controller", false},
		"a person":                            {"apps/v1", "ReplicaSet", "eve", false},
		"nobody":                              {"apps/v1", "ReplicaSet", "", false},
		"a kind of that name of others":       {"eve.example/v1", "ReplicaSet", account + "replicaset-controller", false},
		"a kind of others":                    {"eve.example/v1", "Database", account + "replicaset-controller", false},
		"a kind of others, and the one user":  {"eve.example/v1", "Database", "system:kube-controller-manager", false},
		"the core group's kind of another's":  {"apps/v1", "ReplicationController", account + "replication-controller", false},
		"a group without a version, a prefix": {"apps", "ReplicaSet", account + "replicaset-controller", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := match.ByItsController(&v1alpha1.Owner{APIVersion: tc.version, Kind: tc.kind}, tc.user); got != tc.want {
				t.Errorf("ByItsController = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestSameCreator(t *testing.T) {
	for name, tc := range map[string]struct {
		creator, user string
		want          bool
	}{
		"the same": {"a", "a", true}, "another": {"a", "b", false}, "not noted": {"", "b", true}, "nobody": {"a", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			pc := &v1alpha1.PodCheckpoint{Status: v1alpha1.PodCheckpointStatus{Creator: tc.creator}}
			if got := match.SameCreator(pc, tc.user); got != tc.want {
				t.Errorf("SameCreator = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestHolds(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "p1", Annotations: map[string]string{
		v1alpha1.AnnotationClaim: "id", v1alpha1.AnnotationCreator: "controller",
	}}}
	for name, tc := range map[string]struct {
		claim *v1alpha1.Claim
		want  bool
	}{
		"no claim":             {nil, false},
		"without an ID":        {&v1alpha1.Claim{}, false},
		"another ID":           {&v1alpha1.Claim{ID: "other", User: "controller"}, false},
		"not bound":            {&v1alpha1.Claim{ID: "id", User: "controller"}, true},
		"bound":                {&v1alpha1.Claim{ID: "id", User: "controller", PodUID: "p1"}, true},
		"bound to another pod": {&v1alpha1.Claim{ID: "id", User: "controller", PodUID: "p2"}, false},
		"the ID was copied":    {&v1alpha1.Claim{ID: "id", User: "other"}, false},
		"of an older version":  {&v1alpha1.Claim{ID: "id"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := match.Holds(pod, tc.claim); got != tc.want {
				t.Errorf("Holds = %v, want %v", got, tc.want)
			}
		})
	}
}
