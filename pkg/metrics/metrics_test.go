// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// everyMetric touches each function of the package, so that every metric has at least one series to look at.
func everyMetric() {
	metrics.CountCheckpoint(v1alpha1.ReasonEviction, metrics.OutcomeReady)
	metrics.ObservePhase(v1alpha1.PhaseDumping, time.Second)
	metrics.ObserveFrozen(time.Second)
	metrics.ObserveExport(10, 4)
	metrics.CountClaim(metrics.ClaimWon)
	metrics.CountRestore(v1alpha1.RestoreMethodImage, metrics.RestoreDone)
	metrics.ObserveRestore(v1alpha1.RestoreMethodImage, -time.Second)
	metrics.CountFallback(metrics.FallbackPull)
	metrics.CountPod(metrics.PodPrepared)
	metrics.CountEviction(metrics.EvictionSaved)
	metrics.CountDeletion(v1alpha1.TriggerPreemption, metrics.EvictionSaved)
	metrics.HoldEviction()(time.Second)
	metrics.CountSelfTest(v1alpha1.RestoreMethodImage, true, time.Unix(1000, 0))
	metrics.CountThaw(metrics.ThawReleased)
	metrics.CountHalt()
	metrics.CountStray()
	metrics.CountPrefetch(metrics.PrefetchWhole, 10)
	metrics.CountAgentError(metrics.StepDump)
	metrics.CountRemoval(v1alpha1.ReasonTermination, metrics.RemovedSaved)
	metrics.CountEnd(metrics.CauseOfNotice("karpenter.sh/disrupted"))
	metrics.CountRemovedImages(metrics.RuleAge, 1, 10)
	metrics.CountRemovedCheckpoint(metrics.RuleAge)
	metrics.CountRetentionFailure(metrics.RetentionAway)
}

func gathered(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := ctrlmetrics.Registry.Gather()
	if err != nil {
		t.Fatalf("gathering: %v", err)
	}
	ours := map[string]*dto.MetricFamily{}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), metrics.Namespace+"_") {
			ours[f.GetName()] = f
		}
	}
	return ours
}

func TestWhatHasNoLabelsIsThereFromTheStart(t *testing.T) {
	metrics.ShowAgent()
	families := gathered(t)
	for _, name := range []string{"cryopod_agent_strays_total", "cryopod_agent_halts_total", "cryopod_agent_prefetched_bytes_total"} {
		if f := families[name]; f == nil || len(f.Metric) != 1 || f.Metric[0].GetCounter().GetValue() != 0 {
			t.Errorf("%s = %v, want one sample of 0", name, f)
		}
	}
}

func TestNamesAndLabels(t *testing.T) {
	everyMetric()
	families := gathered(t)
	if len(families) != 28 {
		t.Errorf("%d metrics are registered and used here, want 28: add new ones to everyMetric", len(families))
	}
	name := regexp.MustCompile(`^cryopod_(checkpoint|claim|restore|admission|eviction|agent|retention|removal|termination)_[a-z_]+_(seconds|bytes|total|requests)$`)
	forbidden := []string{"pod", "node", "namespace", "name", "uid"}
	for n, f := range families {
		if !name.MatchString(n) {
			t.Errorf("metric %q does not match %s", n, name)
		}
		for _, l := range f.GetMetric()[0].GetLabel() {
			if slices.Contains(forbidden, l.GetName()) {
				t.Errorf("metric %q has the unbounded label %q", n, l.GetName())
			}
		}
	}
}

func TestValues(t *testing.T) {
	before := gathered(t)
	metrics.ObserveRestore("process", -time.Hour)
	done := metrics.HoldEviction()
	if got := gathered(t)["cryopod_eviction_held_requests"].GetMetric()[0].GetGauge().GetValue(); got != 1 {
		t.Errorf("held requests while one is held = %v, want 1", got)
	}
	done(2 * time.Second)
	if got := gathered(t)["cryopod_eviction_held_requests"].GetMetric()[0].GetGauge().GetValue(); got != 0 {
		t.Errorf("held requests afterwards = %v, want 0", got)
	}
	metrics.CountSelfTest("process", false, time.Unix(1000, 0))

	after := gathered(t)
	for _, m := range after["cryopod_restore_duration_seconds"].GetMetric() {
		if m.GetLabel()[0].GetValue() == "process" && m.GetHistogram().GetSampleSum() != 0 {
			t.Errorf("a negative duration was recorded as %v s, want 0", m.GetHistogram().GetSampleSum())
		}
	}
	for _, m := range after["cryopod_agent_self_test_passed_timestamp_seconds"].GetMetric() {
		if m.GetLabel()[0].GetValue() == "process" && m.GetGauge().GetValue() != 0 {
			t.Errorf("a failed self-test left the time of the last pass at %v, want 0", m.GetGauge().GetValue())
		}
	}
	if len(after) < len(before) {
		t.Errorf("metrics disappeared: %d before, %d after", len(before), len(after))
	}
}

func TestCauseOfNotice(t *testing.T) {
	for cause, want := range map[string]metrics.NoticeCause{
		"aws-node-termination-handler/spot-itn": "aws", "ToBeDeletedByClusterAutoscaler": "cluster_autoscaler", "Shutdown": "shutdown",
		"MemoryPressure": "memory_pressure", "node.kubernetes.io/unschedulable": "cordon", "example.com/going": "other", "": "other",
	} {
		if got := metrics.CauseOfNotice(cause); got != want {
			t.Errorf("class of %q = %q, want %q", cause, got, want)
		}
	}
}
