// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// ref names an object.
type ref struct {
	kind string
	key  types.NamespacedName
}

// snapshot is the objects of a moment. Neither it nor its objects are ever changed: a write makes a new one.
type snapshot map[ref]client.Object

// change is what a watch tells: from the second on, each may be nil.
type change struct {
	ref    ref
	before client.Object
	after  client.Object
}

// kindOf is the object's kind, and that of a list's objects.
func kindOf(obj any) string {
	switch obj.(type) {
	case *corev1.Pod, *corev1.PodList:
		return "Pod"
	case *v1alpha1.PodCheckpoint, *v1alpha1.PodCheckpointList:
		return "PodCheckpoint"
	case *corev1.Node, *corev1.NodeList:
		return "Node"
	case *v1alpha1.NodeProfile:
		return "NodeProfile"
	case *appsv1.ReplicaSet:
		return "ReplicaSet"
	case *appsv1.StatefulSet:
		return "StatefulSet"
	case *policyv1.PodDisruptionBudgetList:
		return "PodDisruptionBudget"
	case *corev1.ResourceQuotaList:
		return "ResourceQuota"
	}
	return fmt.Sprintf("%T", obj)
}

func refOf(obj client.Object) ref { return ref{kindOf(obj), client.ObjectKeyFromObject(obj)} }

func clone(obj client.Object) client.Object {
	// What DeepCopyObject gives for a client.Object is one.
	out, _ := obj.DeepCopyObject().(client.Object)
	return out
}

func notFound(r ref) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: strings.ToLower(r.kind)}, r.key.Name)
}

func conflict(r ref, why string) error {
	return apierrors.NewConflict(schema.GroupResource{Resource: strings.ToLower(r.kind)}, r.key.Name, fmt.Errorf("%s", why))
}

func (w *World) get(r ref) client.Object { return w.objects[r] }

func (w *World) pod(key types.NamespacedName) *corev1.Pod {
	pod, _ := w.objects[ref{"Pod", key}].(*corev1.Pod)
	return pod
}

func (w *World) pods() []*corev1.Pod { return all[*corev1.Pod](w.objects) }

func (w *World) checkpoints() []*v1alpha1.PodCheckpoint {
	return all[*v1alpha1.PodCheckpoint](w.objects)
}

// all are the objects of a kind, by name.
func all[T client.Object](s snapshot) []T {
	var out []T
	for _, obj := range s {
		if one, ok := obj.(T); ok {
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b T) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out
}

// put stores a new version of the object, which is the store's from then on; the copy that it returns is the caller's.
func (w *World) put(obj client.Object) client.Object {
	r := refOf(obj)
	before := w.objects[r]
	w.version++
	obj.SetResourceVersion(strconv.Itoa(w.version))
	onTheWire(obj)
	w.objects = maps.Clone(w.objects)
	w.objects[r] = obj
	w.publish(change{ref: r, before: before, after: obj})
	return clone(obj)
}

// drop removes an object.
func (w *World) remove(r ref) {
	before := w.objects[r]
	if before == nil {
		return
	}
	w.version++
	w.objects = maps.Clone(w.objects)
	delete(w.objects, r)
	w.publish(change{ref: r, before: before})
}

// create stores an object that is new.
func (w *World) create(obj client.Object) (client.Object, error) {
	if obj.GetName() == "" {
		w.names++
		obj.SetName(obj.GetGenerateName() + strconv.Itoa(w.names))
	}
	r := refOf(obj)
	if w.objects[r] != nil {
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Resource: strings.ToLower(r.kind)}, r.key.Name)
	}
	w.uids++
	obj.SetUID(types.UID("uid-" + strconv.Itoa(w.uids)))
	obj.SetCreationTimestamp(metav1.Now())
	obj.SetGeneration(1)
	return w.put(obj), nil
}

// updateStatus is the API server's update of a status: by resourceVersion and UID where the caller gives them, and nothing but the status.
func (w *World) updateStatus(in *v1alpha1.PodCheckpoint) (client.Object, error) {
	r := refOf(in)
	cur, ok := w.objects[r].(*v1alpha1.PodCheckpoint)
	switch {
	case !ok:
		return nil, notFound(r)
	case in.UID != "" && in.UID != cur.UID:
		return nil, conflict(r, "another object has the name")
	case in.ResourceVersion != "" && in.ResourceVersion != cur.ResourceVersion:
		return nil, conflict(r, "the object has been modified")
	}
	next := cur.DeepCopy()
	next.Status = *in.Status.DeepCopy()
	return w.put(next), nil
}

// deleteObject is the API server's deletion: pods that a kubelet has get a grace period.
func (w *World) deleteObject(r ref, o *client.DeleteOptions) error {
	cur := w.objects[r]
	if cur == nil {
		return notFound(r)
	}
	if pre := o.Preconditions; pre != nil {
		if pre.UID != nil && *pre.UID != cur.GetUID() {
			return conflict(r, "the UID in the precondition is another one")
		}
		if pre.ResourceVersion != nil && *pre.ResourceVersion != cur.GetResourceVersion() {
			return conflict(r, "the resourceVersion in the precondition is another one")
		}
	}
	pod, ok := cur.(*corev1.Pod)
	if !ok {
		w.remove(r)
		return nil
	}
	grace := ownGrace(pod)
	if o.GracePeriodSeconds != nil {
		grace = *o.GracePeriodSeconds
	}
	if grace == 0 || pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		w.remove(r)
		return nil
	}
	if pod.DeletionTimestamp != nil && *pod.DeletionGracePeriodSeconds <= grace {
		return nil
	}
	next := pod.DeepCopy()
	at := metav1.NewTime(time.Now().Add(time.Duration(grace) * time.Second))
	next.DeletionTimestamp, next.DeletionGracePeriodSeconds = &at, &grace
	w.put(next)
	return nil
}

func ownGrace(pod *corev1.Pod) int64 {
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		return *g
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

// onTheWire gives times the grain that they have once they were encoded.
func onTheWire(obj client.Object) {
	obj.SetCreationTimestamp(second(obj.GetCreationTimestamp()))
	switch o := obj.(type) {
	case *corev1.Pod:
		if o.DeletionTimestamp != nil {
			at := second(*o.DeletionTimestamp)
			o.DeletionTimestamp = &at
		}
	case *v1alpha1.PodCheckpoint:
		if o.Spec.Deadline != nil {
			at := second(*o.Spec.Deadline)
			o.Spec.Deadline = &at
		}
		for i := range o.Status.Conditions {
			o.Status.Conditions[i].LastTransitionTime = second(o.Status.Conditions[i].LastTransitionTime)
		}
	}
}

func second(t metav1.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }
