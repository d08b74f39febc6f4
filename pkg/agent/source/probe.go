// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// probeMargin is kept free between the thaw and the moment at which the kubelet would count the last failure it takes: for the write
	// before the thaw, and for the process to answer. Of a short budget it is a quarter.
	probeMargin = time.Second
	// leastStill is the least time that a pod has to be able to stand still for an attempt to be worth its freeze.
	leastStill = time.Second
)

// Budget is how long a pod may stand still before the kubelet restarts a container of it, because a probe of that container fails.
type Budget struct {
	// Span is from the freeze to the end of the last failure that the kubelet takes.
	Span time.Duration
	// Probe names the probe that sets it, for people.
	Probe string
}

// Still is for how long the agent lets the pod stand still: the budget without its margin.
func (b Budget) Still() time.Duration { return b.Span - min(probeMargin, b.Span/4) }

// ProbeBudget computes the budget of a running pod that is frozen at now; false where no probe sets one. It takes what the kubelet does
// (pkg/kubelet/prober of Kubernetes 1.37) at its worst: a probe begins just after the freeze, and fails when its time is out.
//
//   - HTTP and gRPC: the kernel accepts the connection, and nobody answers. A failure each period.
//   - TCP: the kernel answers for a frozen process, until its queue of connections is full; and CRIU locks the pod's network while it dumps.
//     Counted like HTTP.
//   - exec: the runtime refuses to run anything in a paused container (containerd's shim: "cannot exec in a paused state"), and the
//     kubelet throws the result of a probe away that could not be run. Only one that ran already when the pod was frozen fails, once.
//   - A liveness probe rests until the container's startup probe has succeeded. Of a container that has not started, all startup probes so
//     far have failed, and they count.
//   - Readiness probes restart nothing: a frozen pod leaves its Services, as it should.
//
// Failures of a liveness probe before the freeze are known to the kubelet only; a container that fails now and then may be restarted sooner.
func ProbeBudget(pod *corev1.Pod, now time.Time) (Budget, bool) {
	var least Budget
	found := false
	statuses := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		i := slices.IndexFunc(statuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name })
		if i < 0 || statuses[i].State.Running == nil {
			continue
		}
		b, ok := containerBudget(&c, &statuses[i], now)
		if ok && (!found || b.Span < least.Span) {
			least, found = b, true
		}
	}
	return least, found
}

func containerBudget(c *corev1.Container, s *corev1.ContainerStatus, now time.Time) (Budget, bool) {
	if c.StartupProbe != nil && (s.Started == nil || !*s.Started) {
		return span(c.Name, "startup", c.StartupProbe, s, now)
	}
	if c.LivenessProbe != nil {
		return span(c.Name, "liveness", c.LivenessProbe, s, now)
	}
	return Budget{}, false
}

// span is the budget that one probe sets.
func span(container, kind string, p *corev1.Probe, s *corev1.ContainerStatus, now time.Time) (Budget, bool) {
	period, timeout, failures := seconds(p.PeriodSeconds, 10), seconds(p.TimeoutSeconds, 1), p.FailureThreshold
	if failures < 1 {
		failures = 3
	}
	b := Budget{Probe: fmt.Sprintf("the %s probe of container %q (%s every %s, timeout %s, %d failures)",
		kind, container, how(p), period, timeout, failures)}
	// The first probe comes no sooner than this.
	first := seconds(p.InitialDelaySeconds, 0)
	if running := s.State.Running.StartedAt; !running.IsZero() {
		first -= now.Sub(running.Time)
	}
	left := failures
	if kind == "startup" && first <= 0 {
		left -= int32(min(-first/period+1, time.Duration(failures)))
	}
	if left < 1 {
		return b, true
	}
	if p.Exec != nil && left > 1 {
		return Budget{}, false
	}
	b.Span = max(first, 0) + time.Duration(left-1)*max(period, timeout) + timeout
	return b, true
}

func how(p *corev1.Probe) string {
	switch {
	case p.Exec != nil:
		return "exec"
	case p.TCPSocket != nil:
		return "TCP"
	case p.GRPC != nil:
		return "gRPC"
	default:
		return "HTTP"
	}
}

func seconds(n, otherwise int32) time.Duration {
	if n < 1 {
		n = otherwise
	}
	return time.Duration(n) * time.Second
}

// tooShort says why a pod isn't frozen at all.
func (b Budget) tooShort() error {
	return fmt.Errorf("%s has its container restarted once it stands still for %s, too short for a checkpoint: raise its failureThreshold, "+
		"periodSeconds or timeoutSeconds", b.Probe, b.Span)
}
