// SPDX-License-Identifier: Apache-2.0

package match_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

func TestBears(t *testing.T) {
	made := func(n int, changes ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
		pc := ready(owned("ReplicaSet"))
		pc.Name, pc.Spec.Fence = match.Name(owned("ReplicaSet"), n), false
		for _, c := range changes {
			c(pc)
		}
		return pc
	}
	fence := func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Fence = true }
	claimed := func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim = &v1alpha1.Claim{ID: "c"} }
	for name, tc := range map[string]struct {
		other *v1alpha1.PodCheckpoint
		want  match.Bearing
	}{
		"itself":                      {other: made(2)},
		"older":                       {other: made(1)},
		"newer":                       {other: made(10), want: match.BearingNewer},
		"newer, superseded":           {other: made(10, phase(v1alpha1.PhaseExpired))},
		"newer, under way":            {other: made(10, phase(v1alpha1.PhaseExporting))},
		"fenced, not begun":           {other: made(3, fence, phase("")), want: match.BearingUnderWay},
		"fenced, under way":           {other: made(1, fence, phase(v1alpha1.PhaseExporting)), want: match.BearingUnderWay},
		"fenced, ready":               {other: made(1, fence), want: match.BearingFenced},
		"fenced, released":            {other: made(3, fence, phase(v1alpha1.PhaseReleased))},
		"fenced, failed":              {other: made(3, fence, phase(v1alpha1.PhaseFailed))},
		"claimed":                     {other: made(1, phase(v1alpha1.PhaseClaimed), claimed), want: match.BearingClaimed},
		"restored, fenced":            {other: made(1, fence, phase(v1alpha1.PhaseRestored), claimed), want: match.BearingClaimed},
		"restore failed":              {other: made(1, phase(v1alpha1.PhaseFailed), claimed), want: match.BearingClaimed},
		"claimed, of another pod":     {other: made(1, claimed, func(pc *v1alpha1.PodCheckpoint) { pc.Spec.PodUID = "p2" })},
		"claimed, of another project": {other: made(1, claimed, func(pc *v1alpha1.PodCheckpoint) { pc.Namespace = "other" })},
	} {
		t.Run(name, func(t *testing.T) {
			if got := match.Bears(made(2), tc.other); got != tc.want {
				t.Errorf("Bears = %d, want %d", got, tc.want)
			}
		})
	}
	others := []v1alpha1.PodCheckpoint{*made(3), *made(4, fence), *made(1)}
	if b, pc := match.Weightiest(made(2), others); b != match.BearingFenced || pc == nil || pc.Name != others[1].Name {
		t.Errorf("Weightiest = %d, %v, want the fenced one's", b, pc)
	}
	if b, pc := match.Weightiest(made(2), others[2:]); b != match.BearingNone || pc != nil {
		t.Errorf("Weightiest = %d, %v, want none", b, pc)
	}
}

func TestRestarted(t *testing.T) {
	started := func(at time.Time) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: "main", State: corev1.ContainerState{
			Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at)},
		}}
	}
	for name, tc := range map[string]struct {
		status  corev1.ContainerStatus
		sidecar bool
		want    string
	}{
		"ran all along":             {status: started(noon.Add(-time.Hour))},
		"started again":             {status: started(noon.Add(time.Second)), want: "main"},
		"sidecar, started again":    {status: started(noon.Add(time.Second)), sidecar: true, want: "main"},
		"ended":                     {status: corev1.ContainerStatus{Name: "main"}, want: "main"},
		"another one, not saved":    {status: corev1.ContainerStatus{Name: "other"}},
		"started before the freeze": {status: started(noon)},
	} {
		t.Run(name, func(t *testing.T) {
			pc := ready(owned("ReplicaSet"))
			pc.Status.Containers = []v1alpha1.ContainerCheckpoint{{Name: "main"}}
			pc.Status.Enter(v1alpha1.PhaseFreezing, "", noon)
			pod := onNode()
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{tc.status}
			if tc.sidecar {
				pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses = pod.Status.ContainerStatuses, nil
			}
			if got := match.Restarted(pod, pc); got != tc.want {
				t.Errorf("Restarted = %q, want %q", got, tc.want)
			}
		})
	}
}
