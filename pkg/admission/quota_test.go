// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func quota(name corev1.ResourceName, used, hard string, scopes ...corev1.ResourceQuotaScope) *corev1.ResourceQuota {
	return &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "quota"},
		Spec:       corev1.ResourceQuotaSpec{Scopes: scopes},
		Status: corev1.ResourceQuotaStatus{
			Hard: corev1.ResourceList{name: resource.MustParse(hard)}, Used: corev1.ResourceList{name: resource.MustParse(used)},
		},
	}
}

// TestPodClaimsNothingOverQuota leaves the checkpoint to the pod that the quota lets in.
func TestPodClaimsNothingOverQuota(t *testing.T) {
	tests := map[string]struct {
		quota *corev1.ResourceQuota
		want  v1alpha1.Phase
	}{
		"no pod more":        {quota("pods", "3", "3"), v1alpha1.PhaseReady},
		"no object more":     {quota("count/pods", "3", "3"), v1alpha1.PhaseReady},
		"the last pod":       {quota("pods", "2", "3"), v1alpha1.PhaseClaimed},
		"too little CPU":     {quota("requests.cpu", "600m", "1"), v1alpha1.PhaseReady},
		"just enough CPU":    {quota("cpu", "500m", "1"), v1alpha1.PhaseClaimed},
		"too little memory":  {quota("limits.memory", "1Gi", "1.5Gi"), v1alpha1.PhaseReady},
		"of what it has not": {quota("limits.cpu", "1", "1"), v1alpha1.PhaseClaimed},
		"of other things":    {quota("services", "3", "3"), v1alpha1.PhaseClaimed},
		"with scopes":        {quota("pods", "3", "3", corev1.ResourceQuotaScopeBestEffort), v1alpha1.PhaseClaimed},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, readyFrom("web-a", now), tc.quota)
			w.create(replacement(func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources = corev1.ResourceRequirements{
					Requests: corev1.ResourceList{"cpu": resource.MustParse("500m")}, Limits: corev1.ResourceList{"memory": resource.MustParse("1Gi")},
				}
			}), false)
			if got := w.checkpoints()[0].Status.Phase; got != tc.want {
				t.Errorf("the checkpoint is %s, want %s", got, tc.want)
			}
		})
	}
}
