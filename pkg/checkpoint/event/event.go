// SPDX-License-Identifier: Apache-2.0

// Package event publishes one happening on all the objects that people look at when they ask about it.
package event

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// The reasons of the events that the controllers publish, as machines read them.
const (
	ReasonClaimed       = "CheckpointClaimed"
	ReasonRestored      = "Restored"
	ReasonRestoreFailed = "RestoreFailed"
	ReasonFailed        = "CheckpointFailed"

	// Of checkpoints on a schedule: their pod went with its node, or a replacement starts cold although there is one.
	ReasonSourceLost = "SourceLost"
	ReasonNotOffered = "CheckpointNotUsed"
	ReasonHandedOver = "EvictionHandedOver"

	// Of nodes that end, and of pods that Cryopod ends itself. EvictedCold is what the webhook says as well.
	ReasonNotice      = "TerminationNotice"
	ReasonNoticeOver  = "TerminationNoticeOver"
	ReasonRemoved     = "SavedAndRemoved"
	ReasonEvictedCold = "EvictedCold"
	ReasonNotRemoved  = "NotEvicted"

	// Of retention: on an owner, on a PodCheckpoint, on a namespace, and on the webhook's Deployment.
	ReasonImagesRemoved    = "CheckpointImagesRemoved"
	ReasonImagesLeft       = "CheckpointImagesLeft"
	ReasonInvalidRetention = "InvalidRetention"
	ReasonRegistryRefuses  = "RegistryRefusesDeletion"
)

// Recorder takes events. events.EventRecorder of client-go is one; it queues them and never blocks.
type Recorder interface {
	Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
}

// Event is something that happened to a pod because of its checkpoint.
type Event struct {
	// Type is corev1.EventTypeNormal or corev1.EventTypeWarning.
	Type string
	// Reason is one of the Reason constants.
	Reason string
	// Action is what was done about it, in one word.
	Action string
	// Message is a sentence for people; it ends with what happens next.
	Message string
}

// Publish records the event on the pod and on the PodCheckpoint, each related to the other, and on the owner, related to the pod:
// recorders count events of one reason about the same objects together and keep the first one's message. The owner is the one that the
// PodCheckpoint knows, else the pod's controller. Pod and pc may be nil.
func Publish(r Recorder, e Event, pc *v1alpha1.PodCheckpoint, pod *corev1.Pod) {
	var aboutPod, aboutCheckpoint runtime.Object
	if pod != nil {
		aboutPod = pod
	}
	if pc != nil {
		aboutCheckpoint = pc
	}
	if pod != nil {
		r.Eventf(pod, aboutCheckpoint, e.Type, e.Reason, e.Action, "%s", e.Message)
	}
	if pc != nil {
		r.Eventf(pc, aboutPod, e.Type, e.Reason, e.Action, "%s", e.Message)
	}
	if o := owner(pc, pod); o != nil {
		r.Eventf(o, aboutPod, e.Type, e.Reason, e.Action, "%s", e.Message)
	}
}

// owner is the subject of an event on the owner, nil when it is not known.
func owner(pc *v1alpha1.PodCheckpoint, pod *corev1.Pod) runtime.Object {
	if pc != nil && pc.Status.Owner != nil {
		o := pc.Status.Owner
		return &corev1.ObjectReference{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: pc.Namespace, Name: o.Name, UID: o.UID}
	}
	if pod == nil {
		return nil
	}
	if o := metav1.GetControllerOfNoCopy(pod); o != nil {
		return &corev1.ObjectReference{APIVersion: o.APIVersion, Kind: o.Kind, Namespace: pod.Namespace, Name: o.Name, UID: o.UID}
	}
	return nil
}
