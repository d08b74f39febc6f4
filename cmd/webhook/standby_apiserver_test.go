// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/test/apiserver"
)

// testLost has a pod that is saved on a schedule and is collected because its node is gone.
func (c *cluster) testLost(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "lost-old", Labels: map[string]string{v1alpha1.LabelEnabled: "true"},
			Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true", v1alpha1.AnnotationInterval: "1h"},
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "lost", UID: "lost", Controller: ptr.To(true)},
			},
		},
		Spec: corev1.PodSpec{NodeName: "gone", Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	}
	c.create(t, pod)
	started := metav1.NewTime(time.Now().Add(-time.Hour))
	c.report(t, pod, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}})
	pc := match.NewCheckpoint(pod, match.Request{Attempt: 1, Reason: v1alpha1.ReasonSchedule})
	pc.OwnerReferences = nil // there is no such ReplicaSet
	c.create(t, pc)
	pc.Status.Owner = match.OwnerOf(pod)
	pc.Status.Containers = []v1alpha1.ContainerCheckpoint{{Name: "app", BaseImage: "app:1", ImageTag: "registry.test/default:lost.app"}}
	pc.Status.Enter(v1alpha1.PhaseReady, "", time.Now())
	if err := c.admin.Status().Update(t.Context(), pc); err != nil {
		t.Fatal(err)
	}
	if err := c.admin.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = corev1.PodFailed
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC", LastTransitionTime: metav1.Now(),
	})
	if err := c.admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	apiserver.Await(t, "the word that the pod is lost", func(ctx context.Context) (string, bool, error) {
		live, err := c.get(ctx, pc.Name)
		return live.Status.Message, match.SourceLost(live), err
	})
	c.awaitEvents(t, "SourceLost", pc.Name)
	c.awaitEvents(t, "SourceLost", "lost")
}

// testSurplus has a checkpoint wait whose ReplicaSet wants no pod any more.
func (c *cluster) testSurplus(t *testing.T) {
	labels := map[string]string{"app": "over"}
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "owner-of-over"},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr.To(int32(0)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
			},
		},
	}
	c.create(t, rs)
	pc := c.checkpoint(t, "over", v1alpha1.PhaseReady)
	pc.Status.Owner.UID = rs.UID
	if err := c.admin.Status().Update(t.Context(), pc); err != nil {
		t.Fatal(err)
	}
	live := c.awaitPhase(t, "over", v1alpha1.PhaseExpired)
	if want := `ReplicaSet "owner-of-over" was scaled to 0: no pod stands in`; !strings.Contains(live.Status.Message, want) {
		t.Errorf("message %q, want …%s…", live.Status.Message, want)
	}
}
