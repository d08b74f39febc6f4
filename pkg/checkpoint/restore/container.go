// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// failing are the reasons with which a container waits when its image can't be had or it can't be created or started. Each is
// acted on when it is first seen: what fails in a restore does not heal, and the pod could run cold meanwhile.
var failing = map[string]metrics.FallbackClass{
	"ErrImagePull":               metrics.FallbackPull,
	"ImagePullBackOff":           metrics.FallbackPull,
	"ErrImageNeverPull":          metrics.FallbackPull,
	"InvalidImageName":           metrics.FallbackPull,
	"ImageInspectError":          metrics.FallbackPull,
	"RegistryUnavailable":        metrics.FallbackPull,
	"SignatureValidationFailed":  metrics.FallbackPull,
	"CreateContainerError":       metrics.FallbackCreate,
	"CreateContainerConfigError": metrics.FallbackCreate,
	"PreCreateHookError":         metrics.FallbackCreate,
	"PreStartHookError":          metrics.FallbackStart,
	"PostStartHookError":         metrics.FallbackStart,
	"RunContainerError":          metrics.FallbackStart,
	"StartError":                 metrics.FallbackStart,
	"ContainerCannotRun":         metrics.FallbackStart,
	"CrashLoopBackOff":           metrics.FallbackExit,
}

// container is one container of a pod that still has its checkpoint image.
type container struct {
	name    string
	again   bool // the kubelet starts it again when it ends with a failure
	always  bool // the kubelet starts it again however it ends
	status  *corev1.ContainerStatus
	problem *problem
}

// problem is why a container does not run from its checkpoint, or no longer.
type problem struct {
	class metrics.FallbackClass
	text  string
}

// swapped are the containers of the pod that have their checkpoint image still, in the pod's order.
func swapped(pod *corev1.Pod) []container {
	base := inject.BaseImages(pod)
	var out []container
	add := func(c *corev1.Container, policy corev1.RestartPolicy, statuses []corev1.ContainerStatus) {
		if image, ok := base[c.Name]; !ok || image == c.Image {
			return
		}
		one := container{name: c.Name, always: policy == corev1.RestartPolicyAlways, again: policy != corev1.RestartPolicyNever}
		if i := slices.IndexFunc(statuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name }); i >= 0 {
			one.status = &statuses[i]
			one.problem = problemOf(one.status)
		}
		out = append(out, one)
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		policy := cmp.Or(pod.Spec.RestartPolicy, corev1.RestartPolicyAlways)
		if c.RestartPolicy != nil {
			policy = corev1.RestartPolicy(*c.RestartPolicy)
		}
		add(c, policy, pod.Status.InitContainerStatuses)
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		policy := cmp.Or(pod.Spec.RestartPolicy, corev1.RestartPolicyAlways)
		if c.RestartPolicy != nil {
			policy = corev1.RestartPolicy(*c.RestartPolicy)
		}
		add(c, policy, pod.Status.ContainerStatuses)
	}
	return out
}

// problemOf looks at the present state first: it names the failure best. A restart alone counts too, because what runs after it
// has begun from the checkpoint a second time.
func problemOf(s *corev1.ContainerStatus) *problem {
	switch {
	case s.State.Waiting != nil:
		if class, ok := failing[s.State.Waiting.Reason]; ok {
			return &problem{class, waitingText(s)}
		}
	case s.State.Terminated != nil && !completed(s.State.Terminated):
		return endedProblem(s.State.Terminated)
	}
	if s.LastTerminationState.Terminated != nil && s.RestartCount > 0 {
		return endedProblem(s.LastTerminationState.Terminated)
	}
	if s.RestartCount > 0 {
		return &problem{metrics.FallbackExit, "it was restarted"}
	}
	return nil
}

func waitingText(s *corev1.ContainerStatus) string {
	if last := s.LastTerminationState.Terminated; s.State.Waiting.Reason == "CrashLoopBackOff" && last != nil {
		return endedProblem(last).text
	}
	if text := Telling(s.State.Waiting.Message); text != "" {
		return text
	}
	return s.State.Waiting.Reason
}

func endedProblem(t *corev1.ContainerStateTerminated) *problem {
	class := metrics.FallbackExit
	if c, ok := failing[t.Reason]; ok {
		class = c
	}
	if class == metrics.FallbackStart && t.Message != "" {
		return &problem{class, Telling(t.Message)}
	}
	if t.Signal != 0 {
		return &problem{class, fmt.Sprintf("it was ended by signal %d (%s)", t.Signal, cmp.Or(t.Reason, "no reason given"))}
	}
	return &problem{class, fmt.Sprintf("it ended with exit code %d (%s)", t.ExitCode, cmp.Or(t.Reason, "no reason given"))}
}

func completed(t *corev1.ContainerStateTerminated) bool {
	return t.ExitCode == 0 && t.Signal == 0
}

// ran tells whether a container without a problem runs from its checkpoint, or did so to its successful end.
func (c *container) ran() bool {
	if c.status == nil {
		return false
	}
	t := c.status.State.Terminated
	return c.status.State.Running != nil || t != nil && completed(t)
}

// rewinds tells whether the kubelet has started the container from its checkpoint again, or is about to.
func (c *container) rewinds() bool {
	if c.status == nil {
		return false
	}
	if t := c.status.State.Terminated; t != nil && completed(t) {
		return c.always
	}
	return c.again && c.problem != nil
}
