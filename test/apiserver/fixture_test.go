// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"context"
	"testing"
	"time"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// namespace makes a namespace of the test's own.
func namespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}
	if err := admin.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// newPod is an opted-in pod of a ReplicaSet.
func newPod(ns string, changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, GenerateName: "web-", Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: types.UID("owner-" + ns), Controller: ptr.To(true),
			}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.test/app:1"}}},
	}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

func plain(p *corev1.Pod) { delete(p.Annotations, v1alpha1.AnnotationEnabled) }

func annotated(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func create[T client.Object](t *testing.T, obj T, opts ...client.CreateOption) T {
	t.Helper()
	if err := admin.Create(t.Context(), obj, opts...); err != nil {
		t.Fatal(err)
	}
	return obj
}

// takeDown has the webhooks of those names be where nobody listens, until the test ends.
func takeDown(t *testing.T, which func(webhook string) bool) {
	t.Helper()
	var config admissionregv1.MutatingWebhookConfiguration
	if err := admin.Get(t.Context(), client.ObjectKey{Name: "cryopod"}, &config); err != nil {
		t.Fatal(err)
	}
	up := config.DeepCopy().Webhooks
	for i := range config.Webhooks {
		if which(config.Webhooks[i].Name) {
			config.Webhooks[i].ClientConfig.URL = ptr.To("https://127.0.0.1:1/down")
		}
	}
	if err := admin.Update(t.Context(), &config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		config.Webhooks = up
		if err := admin.Update(context.Background(), &config); err != nil {
			t.Error(err)
		}
	})
}

// settle waits until the API server's cache has seen obj as it is. Before that, the API server tries a change on the object that its
// cache still has, finds that it has changed, and tries again: it asks the webhooks twice.
func settle(t *testing.T, obj client.Object) {
	t.Helper()
	notOlder := &client.GetOptions{Raw: &metav1.GetOptions{ResourceVersion: obj.GetResourceVersion()}}
	seen := obj.DeepCopyObject().(client.Object)
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(obj), seen, notOlder); err != nil {
		t.Fatal(err)
	}
}

// runPod makes the pod and what its kubelet would write, on a node that can checkpoint.
func runPod(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	profile(t, "node-a")
	pod.Spec.NodeName = "node-a"
	create(t, pod)
	pod.Status = corev1.PodStatus{
		Phase:      corev1.PodRunning,
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "main", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}},
		}},
	}
	if err := admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	settle(t, pod)
	return pod
}

func profile(t *testing.T, node string) {
	t.Helper()
	p := &v1alpha1.NodeProfile{ObjectMeta: metav1.ObjectMeta{Name: node}}
	p.Status.Conditions = []metav1.Condition{{
		Type: v1alpha1.ConditionCanCheckpoint, Status: metav1.ConditionTrue, Reason: "Test", LastTransitionTime: metav1.Now(),
	}}
	if err := client.IgnoreAlreadyExists(admin.Create(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
}

// agent carries the checkpoint of the pod on to the phase as soon as there is one, as the agent of its node would.
func agent(t *testing.T, pod *corev1.Pod, phase v1alpha1.Phase, message string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if setPhase(ctx, pod, phase, message) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
}

func setPhase(ctx context.Context, pod *corev1.Pod, phase v1alpha1.Phase, message string) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		var pc v1alpha1.PodCheckpoint
		if err := admin.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: match.Name(pod, 1)}, &pc); err != nil {
			return err
		}
		pc.Status.Phase, pc.Status.Message = phase, message
		pc.Status.Owner, pc.Status.TemplateHash = match.OwnerOf(pod), pod.Annotations[v1alpha1.AnnotationTemplateHash]
		pc.Status.Containers = []v1alpha1.ContainerCheckpoint{{
			Name: "main", BaseImage: "registry.test/app:1", BaseImageDigest: "registry.test/app@sha256:" + digest,
			Image: "registry.test/ckpt@sha256:" + digest, ImageTag: "registry.test/ckpt/" + pod.Namespace + ":" + pc.Name + ".main",
		}}
		return admin.Status().Update(ctx, &pc)
	})
}

const digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func checkpoints(t *testing.T, ns string) []v1alpha1.PodCheckpoint {
	t.Helper()
	var list v1alpha1.PodCheckpointList
	if err := admin.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func getPod(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	var got corev1.Pod
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(pod), &got); err != nil {
		t.Fatal(err)
	}
	return &got
}

func clientset(t *testing.T) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(server.Config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// held does again and again what is answered with 429 while the pod is being saved, as all who evict do, until it has another answer. On
// a busy machine, agent may be later than hold.
func held(t *testing.T, do func() error) error {
	t.Helper()
	var err error
	within(t, time.Minute, "an answer other than 429", func() bool {
		err = do()
		return !apierrors.IsTooManyRequests(err)
	})
	return err
}

// within waits for what the API server's caches have to see first.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
