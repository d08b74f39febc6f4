// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/inject"
)

func TestRespond(t *testing.T) {
	others := func(n int) (all []corev1.EvictionResponder) {
		for i := range n {
			all = append(all, corev1.EvictionResponder{Name: fmt.Sprintf("example.com/%d", i), Priority: ptr.To[int32](10000)})
		}
		return all
	}
	ours := corev1.EvictionResponder{Name: "checkpoint.io/responder", Priority: ptr.To[int32](20000)}
	moved := corev1.EvictionResponder{Name: "checkpoint.io/responder", Priority: ptr.To[int32](5000)}
	for name, tc := range map[string]struct {
		have, want []corev1.EvictionResponder
		group      *corev1.PodSchedulingGroup
	}{
		"alone":              {want: []corev1.EvictionResponder{ours}},
		"beside another":     {have: others(1), want: append(others(1), ours)},
		"named by the owner": {have: []corev1.EvictionResponder{moved}, want: []corev1.EvictionResponder{moved}},
		"no room":            {have: others(10), want: others(10)},
		"a pod of a group":   {group: &corev1.PodSchedulingGroup{}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := podWith(func(p *corev1.Pod) { p.Spec.EvictionResponders, p.Spec.SchedulingGroup = tc.have, tc.group })
			got := applyTwice(t, pod, inject.Respond)
			if diff := cmp.Diff(tc.want, got.Spec.EvictionResponders); diff != "" {
				t.Errorf("responders (-want +got):\n%s", diff)
			}
		})
	}
}
