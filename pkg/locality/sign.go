// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
)

// imagesSigner is the key of the plugin's fragment of a pod's signature.
const imagesSigner = Name + ".NeededImages()"

// SignPod adds nothing to the signature of a pod that is not opted in, so that the scheduler's batching goes on as without the
// plugin. A pod that is opted in and starts fresh is told apart by its images. One that restores is not signed: its checkpoint,
// and with it the nodes that fit, is its own, and so is its patience.
func (*Plugin) SignPod(_ context.Context, pod *corev1.Pod) ([]fwk.SignFragment, *fwk.Status) {
	switch {
	case restoring(pod):
		return nil, fwk.NewStatus(fwk.Unschedulable, "the pod restores from a checkpoint of its own")
	case !optedIn(pod):
		return nil, nil
	}
	var names []string
	for _, i := range needed(pod, nil) {
		names = append(names, i.names[0])
	}
	slices.Sort(names)
	return []fwk.SignFragment{{Key: imagesSigner, Value: names}}, nil
}
