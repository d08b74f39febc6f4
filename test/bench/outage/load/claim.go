// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// rivals is how many pods are made at a time for one checkpoint.
const rivals = 2

// settling is how long the replicas' caches get to learn of a checkpoint; in a cluster, it is made seconds before it is claimed.
const settling = 500 * time.Millisecond

// Claims has pods compete for a checkpoint again and again until the time is over: at most one of them may get it.
func (l *Load) Claims(ctx context.Context, every, duration time.Duration) {
	var rounds sync.WaitGroup
	for began := time.Now(); time.Since(began) < duration && ctx.Err() == nil; time.Sleep(every) {
		rounds.Go(func() { l.note(l.round(ctx)) })
	}
	rounds.Wait()
}

func (l *Load) round(ctx context.Context) error {
	owner := metav1.OwnerReference{
		APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "bench-5d59d67564", UID: uuid.NewUUID(), Controller: ptr.To(true),
	}
	hash, err := l.hash(ctx, owner)
	if err != nil || hash == "" { // passed over: there is nothing to compete for
		return err
	}
	pc, err := l.checkpoint(ctx, owner, hash)
	if err != nil {
		return err
	}
	time.Sleep(settling)
	made := make([]*corev1.Pod, rivals)
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() { made[i] = l.create(ctx, Replacement, l.replacement(owner)) })
	}
	all.Wait()
	restored := 0
	for _, pod := range made {
		if pod == nil {
			continue
		}
		if pod.Annotations[v1alpha1.AnnotationRestoreFrom] != "" {
			restored++
		}
		defer func() { l.note(client.IgnoreNotFound(l.client.Delete(ctx, pod, client.GracePeriodSeconds(0)))) }()
	}
	if restored > 1 {
		l.wrongly("PodCheckpoint %s was given to %d pods", pc.Name, restored)
	}
	return client.IgnoreNotFound(l.client.Delete(ctx, pc))
}

func (l *Load) replacement(owner metav1.OwnerReference) *corev1.Pod {
	pod := Pod(Replacement, l.namespaces.Usual)
	pod.OwnerReferences = []metav1.OwnerReference{owner}
	return pod
}

// hash is the template's, as the webhook sees it; empty where no replica answered.
func (l *Load) hash(ctx context.Context, owner metav1.OwnerReference) (string, error) {
	pod := l.replacement(owner)
	if err := l.client.Create(ctx, pod, client.DryRunAll); err != nil {
		return "", fmt.Errorf("trying a pod: %w", err)
	}
	return pod.Annotations[v1alpha1.AnnotationTemplateHash], nil
}

// checkpoint makes one that is Ready, whose pod is gone.
func (l *Load) checkpoint(ctx context.Context, owner metav1.OwnerReference, hash string) (*v1alpha1.PodCheckpoint, error) {
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: l.namespaces.Usual, GenerateName: "bench-", Labels: map[string]string{v1alpha1.LabelOwnerUID: string(owner.UID)},
		},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "gone", PodUID: uuid.NewUUID(), NodeName: "node-1", Reason: v1alpha1.ReasonEviction, Fence: true,
		},
	}
	if err := l.client.Create(ctx, pc); err != nil {
		return nil, fmt.Errorf("making a PodCheckpoint: %w", err)
	}
	ready := client.MergeFrom(pc.DeepCopy())
	for _, name := range []string{"app", "beside"} {
		pc.Status.Containers = append(pc.Status.Containers, v1alpha1.ContainerCheckpoint{
			Name: name, BaseImage: "registry.test/" + name + ":1", ImageTag: "registry.test/checkpoints/" + pc.Namespace + ":" + pc.Name + "." + name,
		})
	}
	pc.Status.Owner = &v1alpha1.Owner{UID: owner.UID, APIVersion: owner.APIVersion, Kind: owner.Kind, Name: owner.Name}
	pc.Status.TemplateHash = hash
	pc.Status.Enter(v1alpha1.PhaseReady, "", time.Now())
	if err := l.client.Status().Patch(ctx, pc, ready); err != nil {
		return nil, fmt.Errorf("making a PodCheckpoint ready: %w", err)
	}
	return pc, nil
}
