// SPDX-License-Identifier: Apache-2.0

// Package index holds the indexes of the cache that the controllers look objects up by.
package index

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	// PodRestoreFrom finds pods by the PodCheckpoint that they were admitted with.
	PodRestoreFrom = "restore-from"
	// CheckpointPodUID finds PodCheckpoints by the UID of the pod that they save.
	CheckpointPodUID = "pod-uid"
	// NodeName finds pods by the node that they run on, and PodCheckpoints by that of the pod that they save.
	NodeName = "node-name"
)

// Add adds the indexes to a manager's cache. It is called once, before the cache starts.
func Add(ctx context.Context, indexer client.FieldIndexer) error {
	if err := indexer.IndexField(ctx, &corev1.Pod{}, PodRestoreFrom, ByRestoreFrom); err != nil {
		return fmt.Errorf("indexing pods by %q: %w", PodRestoreFrom, err)
	}
	if err := indexer.IndexField(ctx, &v1alpha1.PodCheckpoint{}, CheckpointPodUID, ByPodUID); err != nil {
		return fmt.Errorf("indexing PodCheckpoints by %q: %w", CheckpointPodUID, err)
	}
	for _, obj := range []client.Object{&corev1.Pod{}, &v1alpha1.PodCheckpoint{}} {
		if err := indexer.IndexField(ctx, obj, NodeName, ByNodeName); err != nil {
			return fmt.Errorf("indexing %T by %q: %w", obj, NodeName, err)
		}
	}
	return nil
}

// ByNodeName is the key of a pod or a PodCheckpoint under NodeName.
func ByNodeName(obj client.Object) []string {
	name := ""
	switch o := obj.(type) {
	case *corev1.Pod:
		name = o.Spec.NodeName
	case *v1alpha1.PodCheckpoint:
		name = o.Spec.NodeName
	}
	if name == "" {
		return nil
	}
	return []string{name}
}

// ByRestoreFrom is the key of a pod under PodRestoreFrom.
func ByRestoreFrom(obj client.Object) []string {
	if from := obj.GetAnnotations()[v1alpha1.AnnotationRestoreFrom]; from != "" {
		return []string{from}
	}
	return nil
}

// ByPodUID is the key of a PodCheckpoint under CheckpointPodUID.
func ByPodUID(obj client.Object) []string {
	pc, ok := obj.(*v1alpha1.PodCheckpoint)
	if !ok {
		return nil
	}
	return []string{string(pc.Spec.PodUID)}
}

// Restoring lists the cached pods of the namespace that were admitted with the PodCheckpoint of that name.
func Restoring(ctx context.Context, c client.Reader, namespace, checkpoint string) ([]corev1.Pod, error) {
	var pods corev1.PodList
	err := c.List(ctx, &pods, client.InNamespace(namespace), client.MatchingFields{PodRestoreFrom: checkpoint})
	if err != nil {
		return nil, fmt.Errorf("listing pods restored from %q: %w", checkpoint, err)
	}
	return pods.Items, nil
}

// Saving lists the cached PodCheckpoints of the pod of that UID.
func Saving(ctx context.Context, c client.Reader, namespace string, pod types.UID) ([]v1alpha1.PodCheckpoint, error) {
	var list v1alpha1.PodCheckpointList
	err := c.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{CheckpointPodUID: string(pod)})
	if err != nil {
		return nil, fmt.Errorf("listing PodCheckpoints of the pod with UID %q: %w", pod, err)
	}
	return list.Items, nil
}

// OnNode lists the cached pods of the node.
func OnNode(ctx context.Context, c client.Reader, node string) ([]corev1.Pod, error) {
	var pods corev1.PodList
	if err := c.List(ctx, &pods, client.MatchingFields{NodeName: node}); err != nil {
		return nil, fmt.Errorf("listing the pods of node %q: %w", node, err)
	}
	return pods.Items, nil
}

// FromNode lists the cached PodCheckpoints of pods of the node.
func FromNode(ctx context.Context, c client.Reader, node string) ([]v1alpha1.PodCheckpoint, error) {
	var list v1alpha1.PodCheckpointList
	if err := c.List(ctx, &list, client.MatchingFields{NodeName: node}); err != nil {
		return nil, fmt.Errorf("listing the PodCheckpoints of node %q: %w", node, err)
	}
	return list.Items, nil
}
