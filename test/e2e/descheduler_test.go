// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// testAskedOnce evicts a pod as the descheduler does in the background: it asks once, does not wait for the pod to be saved, and
// never comes again. The pod goes on elsewhere all the same, and says meanwhile that it is on its way.
func testAskedOnce(t *testing.T) {
	s := newScene(t, "askedonce", nil, "main")
	template := s.Template(s.name, s.Stepper(s.name, "main", "-memory=128"))
	template.Annotations[v1alpha1.AnnotationEvictOnly] = ""
	s.create(s.Deployment(s.name, template))
	before := s.settle()

	ctx, cancel := s.within(startTimeout)
	defer cancel()
	marked := s.watchMark(ctx, before)
	// Its patience ends as soon as the pod is being saved.
	once, forget := context.WithCancel(ctx)
	answered := make(chan error, 1)
	go func() {
		answered <- testbed.Client.SubResource("eviction").Create(once, before,
			&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: before.Namespace, Name: before.Name}})
	}()
	s.untilCheckpoint(before, toldTimeout, func(v1alpha1.PodCheckpoint) bool { return true })
	forget()
	if err := <-answered; err == nil {
		t.Error("the pod was evicted at once, want an answer that takes longer than the one who asks waits")
	}
	after := s.replaced(before, moveTimeout)
	s.checkMoved(before, after, 1)
	if !<-marked {
		t.Errorf("pod %q never had the annotation %s", before.Name, v1alpha1.AnnotationEvictionInProgress)
	}
	if c := s.checkpoint(before, v1alpha1.PhaseRestored); c.Spec.Removal != v1alpha1.RemovalEvict {
		t.Errorf("PodCheckpoint %q has removal %s, want %s", c.Name, c.Spec.Removal, v1alpha1.RemovalEvict)
	}
}

// watchMark tells, when the pod has gone, whether it ever had the descheduler's mark.
func (s *scene) watchMark(ctx context.Context, pod *corev1.Pod) <-chan bool {
	s.t.Helper()
	w, err := testbed.Client.Watch(ctx, &corev1.PodList{}, client.InNamespace(s.Namespace), client.MatchingFields{"metadata.name": pod.Name})
	if err != nil {
		s.t.Fatal(err)
	}
	marked := make(chan bool, 1)
	go func() {
		defer w.Stop()
		seen := false
		for e := range w.ResultChan() {
			if p, ok := e.Object.(*corev1.Pod); ok && p.Annotations[v1alpha1.AnnotationEvictionInProgress] != "" {
				seen = true
			}
			if e.Type == watch.Deleted {
				break
			}
		}
		marked <- seen
	}()
	return marked
}
