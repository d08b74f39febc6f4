// SPDX-License-Identifier: Apache-2.0

package throughput

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/scale/world"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// Trial is a trial's outcome.
type Trial struct {
	Bound   []time.Time
	Nodes   map[int]string
	CPU     time.Duration
	Metrics string
}

func (t Trial) trial() *trial {
	return &trial{bound: t.Bound, nodes: t.Nodes, cpu: t.CPU, metrics: rig.ParseMetrics(t.Metrics)}
}

// Rate, PerPod and Plugin are what is taken from a trial.
func (t Trial) Rate() float64                    { return t.trial().rate() }
func (t Trial) PerPod() time.Duration            { return t.trial().perPod() }
func (t Trial) Plugin(name string) time.Duration { return t.trial().plugin(name) }
func (t Trial) Check(scheduler string, m Mix) error {
	return t.trial().check(side{scheduler: scheduler}, m)
}
func (t Trial) CheckScored(m Mix) error { return t.trial().checkScored(m) }

// ReportPairs reports on trials, ours and theirs by turns.
func ReportPairs(goal float64, trials ...Trial) map[string]report.Metric {
	var all pairs
	for i := 0; i < len(trials); i += 2 {
		all = append(all, pair{ours: trials[i].trial(), theirs: trials[i+1].trial()})
	}
	metrics := map[string]report.Metric{}
	all.report("x", goal, metrics)
	return metrics
}

// ReplaceImageLocality changes a configuration as for the stopwatch.
var ReplaceImageLocality = replaceImageLocality

// Pod is the pod of that number.
func (m Mix) Pod(i int, scheduler string) *corev1.Pod { return m.pod(i, scheduler) }

// Nodes are the first nodes of the world.
func Nodes(count int) []*corev1.Node {
	var all []*corev1.Node
	for i := range count {
		n, _ := world.Node(i).Value.(*corev1.Node)
		all = append(all, n)
	}
	return all
}

// Profile is the profile of the node of that number.
func Profile(i int) *v1alpha1.NodeProfile {
	p, _ := profile(i).Value.(*v1alpha1.NodeProfile)
	return p
}

// Checkpoint is that of the pod of that number.
var Checkpoint = checkpoint
