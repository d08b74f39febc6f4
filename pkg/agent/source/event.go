// SPDX-License-Identifier: Apache-2.0

package source

import (
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// The reasons of the events that the agent records.
const (
	reasonStarted  = "CheckpointStarted"
	reasonReady    = "CheckpointReady"
	reasonFailed   = "CheckpointFailed"
	reasonReleased = "CheckpointReleased"
	reasonHalted   = "SourceHalted"
)

// Events records events through the API server.
type Events struct {
	// Recorder sends them. An events.EventRecorder of client-go is one.
	Recorder interface {
		Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any)
	}
}

var _ Recorder = Events{}

// Event implements Recorder.
func (e Events) Event(pc *v1alpha1.PodCheckpoint, warning bool, reason, note string) {
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pc.Namespace, Name: pc.Spec.PodName, UID: pc.Spec.PodUID}}
	e.Recorder.Eventf(pc, pod, kind, reason, "Checkpoint", "%s", note)
	switch {
	case reason == reasonStarted && pc.Spec.Reason == v1alpha1.ReasonEviction:
		return // The webhook, which asked for the checkpoint, has told the pod.
	case pc.Spec.Reason == v1alpha1.ReasonSchedule && reason != reasonHalted:
		return // It is one of many. The controller tells the pod, once, when its schedule is not kept.
	}
	e.Recorder.Eventf(pod, pc, kind, reason, "Checkpoint", "%s", note)
}

func (r *Reconciler) started(pc *v1alpha1.PodCheckpoint, containers int) {
	next := "from then on the pod stands still, until it is deleted or goes on here"
	if !pc.Spec.Fence {
		next = "the pod stands still for the dump, and goes on here"
	}
	r.Recorder.Event(pc, false, reasonStarted, fmt.Sprintf("About to freeze and save %s; %s", counted(containers), next))
}

func (r *Reconciler) ready(pc *v1alpha1.PodCheckpoint) {
	next := "the pod goes on here, the checkpoint is kept"
	if pc.Spec.Fence {
		next = "the pod stays frozen until it is deleted, and its replacement goes on from here"
	}
	r.Recorder.Event(pc, false, reasonReady, fmt.Sprintf("%s; %s", pc.Status.Message, next))
}

// tellFailed can't tell whether anyone still waits to evict the pod: the webhook, which lets the eviction through, says so.
func (r *Reconciler) tellFailed(pc *v1alpha1.PodCheckpoint, why error) {
	var gone *podGoneError
	next := "the pod goes on here"
	if errors.As(why, &gone) {
		next = "its replacement starts cold"
	}
	r.Recorder.Event(pc, true, reasonFailed, fmt.Sprintf("Checkpoint failed (%s); %s", pc.Status.Message, next))
}

func (r *Reconciler) tellReleased(pc *v1alpha1.PodCheckpoint) {
	r.Recorder.Event(pc, false, reasonReleased, fmt.Sprintf("Checkpoint released (%s); the pod goes on here", pc.Status.Message))
}

func (r *Reconciler) tellHalted(pc *v1alpha1.PodCheckpoint, containers int) {
	r.Recorder.Event(pc, true, reasonHalted, fmt.Sprintf("Pod %q was taken to have gone with node %q, where %s of it still ran; "+
		"frozen there for good, for its replacement goes on from this checkpoint", pc.Spec.PodName, pc.Spec.NodeName, counted(containers)))
}

// readyMessage tells how much was saved and how long the pod has stood still for it.
func (a *attempt) readyMessage() string {
	var bytes, pushed int64
	for _, c := range a.exported {
		bytes += c.Bytes
		pushed += c.PushedBytes
	}
	frozen := a.r.Clock.Since(enteredAt(a.pc, v1alpha1.PhaseFreezing))
	if !a.pc.Spec.Fence {
		return fmt.Sprintf("saved %s, %s (%s pushed), in %s, of which the pod stood still for %s", counted(len(a.exported)),
			mebibytes(bytes), mebibytes(pushed), frozen.Round(10*time.Millisecond), a.stillFor.Round(10*time.Millisecond))
	}
	return fmt.Sprintf("saved %s, %s (%s pushed), in %s",
		counted(len(a.exported)), mebibytes(bytes), mebibytes(pushed), frozen.Round(10*time.Millisecond))
}

func counted(n int) string {
	if n == 1 {
		return "1 container"
	}
	return fmt.Sprintf("%d containers", n)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
