// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/agent/source"
)

// liveness is an HTTP probe.
func liveness(period, timeout, failures int32) *corev1.Probe {
	return probe(corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{}}, period, timeout, failures)
}

func probe(how corev1.ProbeHandler, period, timeout, failures int32) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: how, PeriodSeconds: period, TimeoutSeconds: timeout, FailureThreshold: failures}
}

func TestProbeBudget(t *testing.T) {
	exec := corev1.ProbeHandler{Exec: &corev1.ExecAction{}}
	tcp := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}
	grpc := corev1.ProbeHandler{GRPC: &corev1.GRPCAction{}}
	http := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{}}
	live := func(p *corev1.Probe) func(*corev1.Container) {
		return func(c *corev1.Container) { c.LivenessProbe = p }
	}
	delayed := func(p *corev1.Probe, seconds int32) *corev1.Probe { p.InitialDelaySeconds = seconds; return p }
	const none = -1
	tests := map[string]struct {
		change  func(*corev1.Container)
		started *bool
		ranFor  time.Duration
		want    time.Duration
		still   time.Duration
	}{
		"no probe":                                 {change: func(*corev1.Container) {}, want: none},
		"a readiness probe restarts nothing":       {change: func(c *corev1.Container) { c.ReadinessProbe = liveness(1, 1, 1) }, want: none},
		"the kubelet's defaults":                   {change: live(liveness(10, 1, 3)), want: 21 * time.Second, still: 20 * time.Second},
		"what the API server would have filled in": {change: live(probe(http, 0, 0, 0)), want: 21 * time.Second, still: 20 * time.Second},
		"strict":                           {change: live(liveness(1, 1, 3)), want: 3 * time.Second, still: 2250 * time.Millisecond},
		"stricter":                         {change: live(liveness(1, 1, 1)), want: time.Second, still: 750 * time.Millisecond},
		"one failure":                      {change: live(liveness(10, 5, 1)), want: 5 * time.Second, still: 4 * time.Second},
		"a timeout longer than the period": {change: live(liveness(1, 5, 3)), want: 15 * time.Second, still: 14 * time.Second},
		"gRPC":                             {change: live(probe(grpc, 10, 2, 2)), want: 12 * time.Second, still: 11 * time.Second},
		"TCP":                              {change: live(probe(tcp, 10, 2, 2)), want: 12 * time.Second, still: 11 * time.Second},
		"exec can't be run in a paused container":      {change: live(probe(exec, 1, 1, 2)), want: none},
		"exec that may run already, and is enough":     {change: live(probe(exec, 1, 4, 1)), want: 4 * time.Second, still: 3 * time.Second},
		"it has not begun":                             {change: live(delayed(liveness(10, 1, 1), 30)), ranFor: 20 * time.Second, want: 11 * time.Second, still: 10 * time.Second},
		"it began long ago":                            {change: live(delayed(liveness(10, 1, 1), 30)), ranFor: time.Hour, want: time.Second, still: 750 * time.Millisecond},
		"startup, liveness rests":                      {change: startup(liveness(1, 1, 1), liveness(10, 1, 30)), ranFor: 5 * time.Second, want: 281 * time.Second, still: 280 * time.Second},
		"startup, nearly over":                         {change: startup(nil, liveness(10, 1, 30)), ranFor: 285 * time.Second, want: time.Second, still: 750 * time.Millisecond},
		"startup, over":                                {change: startup(nil, liveness(10, 1, 30)), ranFor: time.Hour, want: 0},
		"startup, not begun":                           {change: startup(nil, delayed(liveness(10, 1, 1), 30)), ranFor: 20 * time.Second, want: 11 * time.Second, still: 10 * time.Second},
		"startup by exec":                              {change: startup(nil, probe(exec, 10, 1, 30)), ranFor: time.Second, want: none},
		"started, and the startup probe is of no more": {change: startup(liveness(10, 1, 3), liveness(1, 1, 1)), started: new(true), want: 21 * time.Second, still: 20 * time.Second},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if tc.ranFor == 0 {
				tc.ranFor = time.Hour
			}
			status := running("app", "")
			status.Started, status.State.Running.StartedAt = tc.started, metav1.NewTime(start.Add(-tc.ranFor))
			pod := &corev1.Pod{
				Spec:   corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}},
				Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{status}},
			}
			tc.change(&pod.Spec.Containers[0])
			got, bounded := source.ProbeBudget(pod, start)
			if bounded != (tc.want != none) || bounded && (got.Span != tc.want || got.Still() != tc.still) {
				t.Errorf("ProbeBudget = %s, still %s, %v; want %s, still %s", got.Span, got.Still(), bounded, tc.want, tc.still)
			}
		})
	}
}

func startup(live, startup *corev1.Probe) func(*corev1.Container) {
	return func(c *corev1.Container) { c.LivenessProbe, c.StartupProbe = live, startup }
}

// TestProbeBudgetOfAPod takes the strictest probe of the containers that run, sidecars too.
func TestProbeBudgetOfAPod(t *testing.T) {
	ended := running("ended", "")
	ended.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	pod := &corev1.Pod{
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "side", LivenessProbe: liveness(5, 1, 2)}},
			Containers:     []corev1.Container{{Name: "app", LivenessProbe: liveness(10, 1, 3)}, {Name: "ended", LivenessProbe: liveness(1, 1, 1)}},
		},
		Status: corev1.PodStatus{
			InitContainerStatuses: []corev1.ContainerStatus{running("side", "")},
			ContainerStatuses:     []corev1.ContainerStatus{running("app", ""), ended},
		},
	}
	got, _ := source.ProbeBudget(pod, start)
	want := source.Budget{Span: 6 * time.Second, Probe: `the liveness probe of container "side" (HTTP every 5s, timeout 1s, 2 failures)`}
	if got != want {
		t.Errorf("ProbeBudget = %+v, want %+v", got, want)
	}
}
