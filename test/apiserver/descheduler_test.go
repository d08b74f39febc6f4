// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/descheduler"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/test/apiserver"
)

// TestDeschedulerAsksOnce evicts a pod as the descheduler does in the background: once. The pod says that it is on its way for as
// long as it is, and somebody else is to end it.
func TestDeschedulerAsksOnce(t *testing.T) {
	t.Parallel()
	mgr, err := ctrl.NewManager(server.Config, ctrl.Options{
		Scheme: apiserver.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := index.Add(t.Context(), mgr.GetFieldIndexer()); err != nil {
		t.Fatal(err)
	}
	if err := (&descheduler.Reconciler{Client: mgr.GetClient()}).Register(mgr); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(t.Context()) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})

	ns := namespace(t, nil)
	pod := runPod(t, newPod(ns, annotated(v1alpha1.AnnotationEvictOnly, "")))
	agent(t, pod, v1alpha1.PhaseDumping, "")
	err = clientset(t).CoreV1().Pods(ns).EvictV1(t.Context(), evictionOf(pod))
	if !apierrors.IsTooManyRequests(err) || !strings.Contains(err.Error(), "Eviction triggered evacuation") {
		t.Errorf("error = %v, want 429 with the words of an evacuation", err)
	}
	marked := func() bool { return getPod(t, pod).Annotations[v1alpha1.AnnotationEvictionInProgress] != "" }
	within(t, 10*time.Second, "the mark of an eviction in progress", marked)
	if pcs := checkpoints(t, ns); len(pcs) != 1 || pcs[0].Spec.Removal != v1alpha1.RemovalEvict {
		t.Errorf("PodCheckpoints = %+v, want one that the controllers evict for", pcs)
	}
	if err := setPhase(t.Context(), pod, v1alpha1.PhaseReleased, ""); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the end of the mark", func() bool { return !marked() })
}
