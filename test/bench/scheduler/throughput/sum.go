// SPDX-License-Identifier: Apache-2.0

package throughput

import (
	"time"

	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/locality"
	"github.com/cryopod/cryopod/test/bench/scheduler/timed"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// rival is whom ours is compared to, rivalPlugin whom the plugin.
const (
	rival       = "kube-scheduler with ImageLocality"
	rivalPlugin = "ImageLocality"
	// plugins is how much longer than the rival's the plugin's time may be.
	pluginGoal = 1.5
)

// pair are a trial of each scheduler, one right after the other.
type pair struct{ ours, theirs *trial }

type pairs []pair

// report adds the metrics. The ratio is the median of the pairs' own: what slows the machine down for a while slows both.
func (p pairs) report(suffix string, goal float64, metrics map[string]report.Metric) {
	const higher, lower = "higher", "lower"
	of := func(value func(*trial) float64) (ours, theirs, ratios []float64) {
		for _, one := range p {
			a, b := value(one.ours), value(one.theirs)
			ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, a/b)
		}
		return ours, theirs, ratios
	}
	put := func(name, unit, better string, value func(*trial) float64) (ratios []float64) {
		ours, theirs, ratios := of(value)
		m := report.Metric{Value: report.Median(ours), Unit: unit, Better: better, All: ours}
		metrics[name+"_"+suffix] = m.Against(rival, report.Median(theirs))
		return ratios
	}
	ratios := put("throughput", "pods/s", higher, (*trial).rate)
	metrics["throughput_ratio_"+suffix] = report.Metric{
		Value: report.Median(ratios), Unit: "of " + rival, Goal: ptr.To(goal), Better: higher, All: ratios,
	}
	put("throughput_all_bound", "s", lower, func(t *trial) float64 { return t.whole().Seconds() })
	put("throughput_cpu_per_pod", "ms", lower, func(t *trial) float64 { return milliseconds(t.perPod()) })
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// timings are trials with stopwatches.
type timings []*trial

func (t *trial) ours() time.Duration   { return t.plugin(locality.Name) }
func (t *trial) theirs() time.Duration { return t.plugin(timed.ImageLocality) }

func (all timings) report(suffix string, metrics map[string]report.Metric) {
	var ours, theirs, ratios []float64
	for _, t := range all {
		a, b := milliseconds(t.ours()), milliseconds(t.theirs())
		ours, theirs, ratios = append(ours, a), append(theirs, b), append(ratios, a/b)
	}
	m := report.Metric{Value: report.Median(ours), Unit: "ms", Better: "lower", All: ours}
	metrics["plugin_per_pod_"+suffix] = m.Against(rivalPlugin, report.Median(theirs))
	metrics["plugin_ratio_"+suffix] = report.Metric{
		Value: report.Median(ratios), Unit: "of " + rivalPlugin, Goal: ptr.To(pluginGoal), Better: "lower", All: ratios,
	}
}
