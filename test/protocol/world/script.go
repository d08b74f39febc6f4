// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
)

const (
	sourcePod   = "web-0"
	baseImage   = "app:1"
	baseDigest  = "app@sha256:1"
	ownerName   = "web"
	ownerUID    = types.UID("owner")
	deadline    = time.Minute
	newCampaign = time.Minute
)

// FairOnly is for scripts in which something is done that must not be done, and in which all the same nothing bad happens as long as
// everybody is quick.
const FairOnly = -1

// Script is who does what to a pod that is saved.
type Script struct {
	// Name and About tell people which one it is.
	Name, About string
	// Users act, each on its own.
	Users []func(*User)
	// Named is whether the pod belongs to a StatefulSet: its replacement has its name.
	Named bool
	// Pods is how many pods the owner has, 0 for one.
	Pods int
	// Containers is how many containers a pod has, 0 for one.
	Containers int
	// Annotations are the pod's, beside that it is opted in.
	Annotations map[string]string
	// Refuse is how many pods are refused after the webhooks have seen them.
	Refuse int
	// Reinvoke is whether the API server calls the webhook twice for each pod.
	Reinvoke bool
	// RestoreFails is whether the target can't restore after all.
	RestoreFails bool
	// Crashes is whether restored containers may end by themselves.
	Crashes bool
	// Push is how long a push takes, 0 for what is usual, and PushFails whether all fail in the end.
	Push      time.Duration
	PushFails bool
	// Leaders is how many processes believe to lead, 0 for one.
	Leaders int
	// Most is up to how many deviations the invariants are promised; 0 is any number, FairOnly none.
	Most int
	// MustGo is whether the pod has to be gone in the end.
	MustGo bool
	// IfPromised is whether it has to be gone where somebody was told that it goes as soon as it is saved.
	IfPromised bool

	sourceUID types.UID
}

func (s *Script) replicas() int { return max(s.Pods, 1) }

// owner is the user of the owner's controller.
func (s *Script) owner() string {
	if s.Named {
		return "system:serviceaccount:kube-system:statefulset-controller"
	}
	return "system:serviceaccount:kube-system:replicaset-controller"
}

// template is a pod as its owner makes it.
func (s *Script) template() *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: Namespace, GenerateName: "web-x", Labels: map[string]string{"app": "web"},
			Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true", v1alpha1.AnnotationDeadline: deadline.String()},
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: ownerName, UID: ownerUID, Controller: ptr.To(true)},
			},
		},
		Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: ptr.To[int64](5)},
	}
	for _, name := range []string{"app", "side"}[:max(s.Containers, 1)] {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name, Image: baseImage})
	}
	for k, v := range s.Annotations {
		pod.Annotations[k] = v
	}
	if s.Named {
		pod.OwnerReferences[0].Kind, pod.GenerateName, pod.Name = "StatefulSet", "", sourcePod
	}
	return pod
}

// populate makes the world as it is at the beginning: nodes, the owner with its pods, and everybody who acts.
func (w *World) populate() {
	for _, name := range []string{"n1", "n2"} {
		w.nodes = append(w.nodes, &Node{name: name, archives: map[string]*archive{}, repointed: map[string]bool{}})
		w.must(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		}})
		profile := &v1alpha1.NodeProfile{ObjectMeta: metav1.ObjectMeta{Name: name}}
		meta.SetStatusCondition(&profile.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionCanCheckpoint, Status: metav1.ConditionTrue, Reason: "Tried", LastTransitionTime: metav1.Now(),
		})
		w.must(profile)
	}
	w.wanted = w.script.replicas()
	n := ptr.To(int32(w.wanted))
	if w.script.Named {
		w.must(&appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: ownerName, UID: ownerUID}, Spec: appsv1.StatefulSetSpec{Replicas: n},
		})
	} else {
		w.must(&appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: ownerName, UID: ownerUID}, Spec: appsv1.ReplicaSetSpec{Replicas: n},
		})
	}
	for i := range w.script.replicas() {
		w.populatePod(i)
	}
	w.startAgent(w.nodes[0])
	for _, name := range webhooks {
		w.startReplica(name)
	}
	for _, name := range []string{"leader", "leader 2"}[:max(w.script.Leaders, 1)] {
		w.startLeader(name)
	}
	for _, n := range w.nodes {
		w.kubelets = append(w.kubelets, w.newKubelet(n))
	}
	w.newOwner()
	w.newScheduler()
	for i, act := range w.script.Users {
		w.newUser(i, act)
	}
}

// must stores an object with the UID that it has, if any.
func (w *World) must(obj client.Object) {
	uid := obj.GetUID()
	out, err := w.create(obj)
	if err != nil {
		w.broken(err)
		return
	}
	if uid != "" {
		out.SetUID(uid)
		w.put(out)
	}
}

// populatePod makes a pod that runs since long ago, as the webhook has let it in.
func (w *World) populatePod(i int) {
	pod := w.script.template()
	pod.GenerateName, pod.Name = "web-x", []string{sourcePod, "web-1"}[i]
	pod = inject.OptIn(pod, inject.Options{TemplateHash: match.TemplateHash(pod), Creator: w.script.owner()})
	pod.Spec.NodeName, pod.Status.Phase = "n1", corev1.PodRunning
	pod.UID = types.UID("source-" + pod.Name)
	if w.script.Named {
		pod.GenerateName = ""
	}
	if i == 0 {
		w.script.sourceUID = pod.UID
	}
	for j := range pod.Spec.Containers {
		c := &Container{name: pod.Spec.Containers[j].Name, pod: pod.Name, podUID: pod.UID, image: baseImage}
		w.start(w.nodes[0], c, nil)
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.name, ImageID: baseDigest, ContainerID: "containerd://" + c.id,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: second(metav1.Now())}},
		})
	}
	w.must(pod)
}

// newOwner begins the ReplicaSet's or StatefulSet's controller: it makes the pods that are missing, all at the same time.
func (w *World) newOwner() {
	p := w.newProc("owner", clientFaults, true)
	making := 0
	q := p.newQueue(time.Second, func(ctx context.Context, _ types.NamespacedName) (time.Duration, error) {
		if w.active()+making >= w.wanted {
			return 0, nil
		}
		making++
		err := p.createPod(ctx, w.script.template())
		making--
		return time.Millisecond, err
	})
	w.wake = func() {
		for i := range w.wanted {
			q.add(key(fmt.Sprintf("%s-%d", ownerName, i)))
		}
	}
	p.cache.tell = func(ch change) {
		if ch.ref.kind == "Pod" {
			w.wake()
		}
	}
}

// active is how many pods the owner has.
func (w *World) active() int {
	n := 0
	for _, pod := range w.pods() {
		over := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
		if w.script.Named || pod.DeletionTimestamp == nil && !over {
			n++
		}
	}
	return n
}

// newScheduler begins the scheduler: it binds all pods to the other node, for the first one is to be cleared.
func (w *World) newScheduler() {
	p := w.newProc("scheduler", clientFaults, true)
	q := p.newQueue(time.Second, func(ctx context.Context, k types.NamespacedName) (time.Duration, error) {
		pod := w.pod(k)
		if pod == nil || pod.Spec.NodeName != "" {
			return 0, nil
		}
		return 0, p.do(ctx, write, "binds pod "+pod.Name+" to n2", func() error {
			cur := w.pod(k)
			if cur == nil || cur.UID != pod.UID {
				return notFound(refOf(pod))
			}
			next := cur.DeepCopy()
			next.Spec.NodeName = "n2"
			w.put(next)
			return nil
		})
	})
	p.cache.tell = func(ch change) {
		if ch.ref.kind == "Pod" {
			q.add(ch.ref.key)
		}
	}
}
