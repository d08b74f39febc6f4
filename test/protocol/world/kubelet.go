// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/agent/fence"
)

const (
	kubeletRetry = 2 * time.Second
	pullBackOff  = 10 * time.Second
	startTakes   = time.Second
)

var (
	errPull    = errors.New("the image can't be pulled")
	errRestore = errors.New("criu failed: type RESTORE errno 0")
)

// kubelet runs the pods of one node: it starts what is missing, kills what is to go, confirms that, and reports. It does not know that a
// container is frozen.
type kubelet struct {
	*Proc
	w     *World
	n     *Node
	queue *queue
	until map[types.UID]time.Time // when the grace period ends of pods that it has seen to be deleted
}

func (w *World) newKubelet(n *Node) *kubelet {
	k := &kubelet{Proc: w.newProc("kubelet "+n.name, clientFaults, true), w: w, n: n, until: map[types.UID]time.Time{}}
	k.queue = k.newQueue(kubeletRetry, k.reconcile)
	k.cache.tell = func(ch change) {
		if ch.ref.kind == "Pod" {
			k.queue.add(ch.ref.key)
		}
	}
	return k
}

func (k *kubelet) reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	if rest := time.Until(k.n.cut); rest > 0 || k.n.off {
		return rest, nil
	}
	pod := k.w.pod(key)
	if err := k.killOthers(ctx, key, pod); err != nil || pod == nil || pod.Spec.NodeName != k.n.name {
		return 0, err
	}
	if pod.DeletionTimestamp != nil {
		return k.end(ctx, pod)
	}
	if pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return 0, nil // somebody else wrote that; what runs goes when the pod is deleted
	}
	var after time.Duration
	waiting := map[string]string{}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		switch err := k.run(ctx, pod, c); {
		case errors.Is(err, errPull):
			waiting[c.Name], after = "ErrImagePull", pullBackOff
		case errors.Is(err, errRestore):
			waiting[c.Name], after = "RunContainerError", pullBackOff
		case err != nil:
			return 0, err
		}
	}
	return after, k.report(ctx, pod, waiting)
}

// killOthers kills what runs here under the name and is not the pod: it was deleted by force, or collected, and another one may have its name.
func (k *kubelet) killOthers(ctx context.Context, key types.NamespacedName, pod *corev1.Pod) error {
	for _, uid := range k.uids(key.Name) {
		if pod == nil || pod.UID != uid {
			if err := k.kill(ctx, uid); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *kubelet) uids(name string) []types.UID {
	seen := map[types.UID]bool{}
	for _, c := range k.n.containers {
		if c.pod == name && c.state != fence.Gone {
			seen[c.podUID] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func (k *kubelet) kill(ctx context.Context, pod types.UID) error {
	for _, c := range k.n.containers {
		if c.podUID != pod || c.state == fence.Gone {
			continue
		}
		if err := k.do(ctx, node, "kills "+c.String(), func() error { c.become(fence.Gone); return nil }); err != nil {
			return err
		}
	}
	return nil
}

// end kills a deleted pod at the end of its grace period, and then has its object removed.
func (k *kubelet) end(ctx context.Context, pod *corev1.Pod) (time.Duration, error) {
	until := time.Now().Add(time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second)
	if known, seen := k.until[pod.UID]; seen && known.Before(until) {
		until = known
	}
	k.until[pod.UID] = until
	if rest := time.Until(until); rest > 0 && len(k.uids(pod.Name)) > 0 {
		return rest, nil
	}
	if err := k.kill(ctx, pod.UID); err != nil {
		return 0, err
	}
	return 0, k.do(ctx, write, "confirms that pod "+pod.Name+" has ended", func() error {
		uid := pod.UID
		err := k.w.deleteObject(refOf(pod), &client.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &uid},
		})
		return client.IgnoreNotFound(err)
	})
}

// run sees to it that the container runs, from the image that the pod names now.
func (k *kubelet) run(ctx context.Context, pod *corev1.Pod, spec *corev1.Container) error {
	has := k.n.of(pod.UID)[spec.Name]
	if has != nil && has.state != fence.Gone {
		if has.image == spec.Image {
			return nil
		}
		if err := k.do(ctx, node, "kills "+has.String()+", whose image was changed", func() error { has.become(fence.Gone); return nil }); err != nil {
			return err
		}
	}
	c := &Container{name: spec.Name, pod: pod.Name, podUID: pod.UID, image: spec.Image}
	if has != nil {
		c.restarts = has.restarts + 1
	}
	from, err := k.pull(ctx, spec.Image)
	if err != nil {
		return err
	}
	if cur := k.w.pod(client.ObjectKeyFromObject(pod)); cur == nil || cur.UID != pod.UID || cur.DeletionTimestamp != nil {
		return notFound(refOf(pod))
	}
	return k.do(ctx, node, fmt.Sprintf("starts container %q of pod %s from %s", spec.Name, pod.Name, spec.Image), func() error {
		switch {
		case spec.Image == baseImage || k.n.repointed[spec.Image]:
			from = nil
		case from == nil:
			return errPull
		case k.w.script.RestoreFails:
			return errRestore
		}
		k.w.start(k.n, c, from)
		return nil
	})
}

// pull brings a checkpoint's image to the node, as it is in the registry at this moment; nil where it is not there.
func (k *kubelet) pull(ctx context.Context, image string) (*Image, error) {
	var pulled *Image
	if has := k.w.images[image]; has != nil {
		as := *has
		pulled = &as
	}
	return pulled, k.sleep(ctx, startTakes)
}

// report writes the pod's status where it has changed.
func (k *kubelet) report(ctx context.Context, pod *corev1.Pod, waiting map[string]string) error {
	status := pod.Status.DeepCopy()
	status.ContainerStatuses, status.Phase = nil, corev1.PodRunning
	local := k.n.of(pod.UID)
	for i := range pod.Spec.Containers {
		name := pod.Spec.Containers[i].Name
		s := corev1.ContainerStatus{Name: name, ImageID: baseDigest}
		if c := local[name]; c != nil {
			s.ContainerID, s.RestartCount = "containerd://"+c.id, c.restarts
			if c.restarts > 0 {
				s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137}
			}
			if c.state != fence.Gone {
				s.State.Running = &corev1.ContainerStateRunning{StartedAt: second(metav1.NewTime(c.started))}
			}
		}
		if reason := waiting[name]; reason != "" {
			s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "criu failed"}}
		}
		if s.State.Running == nil {
			status.Phase = corev1.PodPending
		}
		status.ContainerStatuses = append(status.ContainerStatuses, s)
	}
	if equality.Semantic.DeepEqual(status, &pod.Status) {
		return nil
	}
	return k.do(ctx, write, fmt.Sprintf("reports that pod %s is %s", pod.Name, status.Phase), func() error {
		cur := k.w.pod(client.ObjectKeyFromObject(pod))
		if cur == nil || cur.UID != pod.UID {
			return notFound(refOf(pod))
		}
		next := cur.DeepCopy()
		next.Status.ContainerStatuses, next.Status.Phase = status.ContainerStatuses, status.Phase
		k.w.put(next)
		return nil
	})
}
