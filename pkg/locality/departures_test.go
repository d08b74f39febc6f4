// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"github.com/cryopod/cryopod/pkg/locality"
)

// TestFilterIsSkippedWhileNoNodeEnds has a node come that ends, and go: for that time only, a pod that doesn't restore is filtered. One that restores is
// all the time.
func TestFilterIsSkippedWhileNoNodeEnds(t *testing.T) {
	f := newFramework(t, startAPIServer(t, newCheckpoint(), newProfile("stays", true)), time.Minute, newNode("stays"))
	skips := func(pod *corev1.Pod) bool {
		state := framework.NewCycleState()
		f.RunPreFilterPlugins(t.Context(), state, pod)
		return state.GetSkipFilterPlugins().Has(locality.Name)
	}
	await := func(when string, want bool) {
		t.Helper()
		err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
			return skips(enabledPod()) == want, nil
		})
		if err != nil {
			t.Errorf("%s the Filter of a fresh pod is skipped: %t, want %t", when, !want, want)
		}
		if skips(restoringPod()) {
			t.Errorf("%s the Filter of a restoring pod is skipped", when)
		}
	}
	await("before the nodes were seen", false)
	f.SharedInformerFactory().Start(t.Context().Done())
	await("while no node ends", true)
	nodes := f.ClientSet().CoreV1().Nodes()
	if _, err := nodes.Create(t.Context(), noticed(newNode("ends"), time.Minute), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await("while one ends", false)
	if err := nodes.Delete(t.Context(), "ends", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await("after it has ended", true)
}
