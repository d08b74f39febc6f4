// SPDX-License-Identifier: Apache-2.0

// Package crowd evicts many opted-in pods at the same time, through the API server, and sees what holding all of them costs the webhook. No
// kubelet and no agent run: a stand-in writes what the agents would.
package crowd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
	"github.com/cryopod/cryopod/test/bench/rig"
)

// perNode is how many of the pods run on one node.
const perNode = 50

// owner is the ReplicaSet of all pods.
const owner = "web-5d8f7c9b6d"

// A NodeProfile lists what is on a node: as many images, of as many layers each, as a node that is in use has.
const (
	imagesOfNode  = 60
	layersOfImage = 8
)

// Crowd is the pods of one namespace, which run.
type Crowd struct {
	bed       *rig.Bed
	namespace string
	pods      []*corev1.Pod
}

// Make makes pods that run, on nodes that can save them. The webhooks have to be in effect.
func Make(ctx context.Context, b *rig.Bed, pods int) (*Crowd, error) {
	ns, err := Namespace(ctx, b, "crowd")
	if err != nil {
		return nil, err
	}
	for n := range (pods + perNode - 1) / perNode {
		if err := node(ctx, b, nodeName(n)); err != nil {
			return nil, err
		}
	}
	crowd := &Crowd{bed: b, namespace: ns}
	for n := range pods {
		crowd.pods = append(crowd.pods, Pod(ns, fmt.Sprintf("web-%03d", n), nodeName(n/perNode)))
	}
	return crowd, each(ctx, crowd.pods, func(ctx context.Context, pod *corev1.Pod) error { return Run(ctx, b, pod) })
}

// Namespace makes a namespace, and returns its name.
func Namespace(ctx context.Context, b *rig.Bed, prefix string) (string, error) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-"}}
	if err := b.Admin.Create(ctx, ns); err != nil {
		return "", fmt.Errorf("making a namespace: %w", err)
	}
	return ns.Name, nil
}

// each calls do for all of them, some at a time.
func each[T any](ctx context.Context, all []T, do func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for _, one := range all {
		group.Go(func() error { return do(ctx, one) })
	}
	return group.Wait()
}

func nodeName(n int) string { return fmt.Sprintf("crowded-%d", n) }

// Pod is an opted-in pod of a ReplicaSet, as large as such pods are.
func Pod(namespace, name, node string) *corev1.Pod {
	env := []corev1.EnvVar{{Name: "MODE", Value: "production"}}
	for n := range 12 {
		env = append(env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", n), Value: strings.Repeat("x", 24)})
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, Labels: map[string]string{"app": "web", "pod-template-hash": "5d8f7c9b6d"},
			// Long enough for a machine that does much else.
			Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true", v1alpha1.AnnotationDeadline: "10m"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: types.UID("owner-" + namespace), Controller: ptr.To(true),
			}},
		},
		Spec: corev1.PodSpec{
			NodeName: node,
			Containers: []corev1.Container{{
				Name: "main", Image: "registry.test/app:1", Env: env,
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi"),
				}},
				ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/bin/ready"}}}},
			}},
		},
	}
}

// Run makes the pod, and writes what its kubelet would once it runs.
func Run(ctx context.Context, b *rig.Bed, pod *corev1.Pod) error {
	if err := b.Admin.Create(ctx, pod); err != nil {
		return fmt.Errorf("making pod %q: %w", pod.Name, err)
	}
	pod.Status = corev1.PodStatus{
		Phase:      corev1.PodRunning,
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "main", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		}},
	}
	if err := b.Admin.Status().Update(ctx, pod); err != nil {
		return fmt.Errorf("having pod %q run: %w", pod.Name, err)
	}
	return nil
}

// node makes a node and the profile that its agent would write.
func node(ctx context.Context, b *rig.Bed, name string) error {
	profile := &v1alpha1.NodeProfile{ObjectMeta: metav1.ObjectMeta{Name: name}}
	var all []imageindex.Image
	for image := range imagesOfNode {
		found := imageindex.Image{Digest: fmt.Sprintf("sha256:%064d", image)}
		for layer := range layersOfImage {
			found.Layers = append(found.Layers, imageindex.Layer{Digest: fmt.Sprintf("sha256:%06d%058d", image*layersOfImage+layer, 0), Bytes: 1 << 23})
		}
		all = append(all, found)
	}
	profile.Status.ImageIndex = imageindex.Pack(all)
	profile.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionCanCheckpoint, Status: metav1.ConditionTrue, Reason: "SelfTest", LastTransitionTime: metav1.Now(),
	}}
	for _, obj := range []client.Object{Node(name), profile} {
		if err := b.Admin.Create(ctx, obj); err != nil {
			return fmt.Errorf("making %T %q: %w", obj, name, err)
		}
	}
	return nil
}

// Node is a node that is as large as such objects are.
func Node(name string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
	for image := range 40 {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
			Names: []string{fmt.Sprintf("registry.test/app-%d@sha256:%064d", image, image), fmt.Sprintf("registry.test/app-%d:1", image)}, SizeBytes: 1 << 26,
		})
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	return n
}

// Gone tells which of the pods are not on their way out with the grace period of a saved pod.
func (k *Crowd) Gone(ctx context.Context) (staying []string, err error) {
	var pods corev1.PodList
	if err := k.bed.Admin.List(ctx, &pods, client.InNamespace(k.namespace)); err != nil {
		return nil, fmt.Errorf("listing the crowd: %w", err)
	}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil || ptr.Deref(pod.DeletionGracePeriodSeconds, -1) != 1 {
			staying = append(staying, pod.Name)
		}
	}
	return staying, nil
}

// Remove removes what is left of the crowd, at once.
func (k *Crowd) Remove(ctx context.Context) error {
	for _, obj := range []client.Object{&v1alpha1.PodCheckpoint{}, &corev1.Pod{}} {
		if err := k.bed.Admin.DeleteAllOf(ctx, obj, client.InNamespace(k.namespace), client.GracePeriodSeconds(0)); err != nil {
			return fmt.Errorf("removing the crowd: %w", err)
		}
	}
	return nil
}

// within waits at most that long for something to be so.
func within(ctx context.Context, limit time.Duration, what string, ok func() (bool, error)) error {
	end := time.Now().Add(limit)
	for {
		done, err := ok()
		if err != nil || done {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %s: %s", limit, what)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
