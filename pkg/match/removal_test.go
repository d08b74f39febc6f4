// SPDX-License-Identifier: Apache-2.0

package match_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

func TestRemovalOf(t *testing.T) {
	for name, tc := range map[string]struct {
		spec  v1alpha1.Removal
		asked metav1.ConditionStatus
		want  v1alpha1.Removal
	}{
		"nobody":                        {"", "", v1alpha1.RemovalNone},
		"who evicts":                    {v1alpha1.RemovalNone, metav1.ConditionFalse, v1alpha1.RemovalNone},
		"we evict":                      {v1alpha1.RemovalEvict, "", v1alpha1.RemovalEvict},
		"we evict, and it is deleted":   {v1alpha1.RemovalEvict, metav1.ConditionTrue, v1alpha1.RemovalDelete},
		"who evicts, and it is deleted": {v1alpha1.RemovalNone, metav1.ConditionTrue, v1alpha1.RemovalDelete},
	} {
		t.Run(name, func(t *testing.T) {
			pc := &v1alpha1.PodCheckpoint{Spec: v1alpha1.PodCheckpointSpec{Removal: tc.spec}}
			pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionRemovalAsked, Status: tc.asked}}
			if got := match.RemovalOf(pc); got != tc.want {
				t.Errorf("RemovalOf = %s, want %s", got, tc.want)
			}
		})
	}
}

func TestCalledOff(t *testing.T) {
	for name, tc := range map[string]struct {
		status metav1.ConditionStatus
		claim  *v1alpha1.Claim
		want   string
	}{
		"it is":         {metav1.ConditionTrue, nil, "why"},
		"it is not":     {metav1.ConditionFalse, nil, ""},
		"it is claimed": {metav1.ConditionTrue, &v1alpha1.Claim{ID: "1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pc := &v1alpha1.PodCheckpoint{Status: v1alpha1.PodCheckpointStatus{Claim: tc.claim}}
			pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionCalledOff, Status: tc.status, Message: "why"}}
			if got := match.CalledOff(pc); got != tc.want {
				t.Errorf("CalledOff = %q, want %q", got, tc.want)
			}
		})
	}
}
