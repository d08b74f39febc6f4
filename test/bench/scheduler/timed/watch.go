// SPDX-License-Identifier: Apache-2.0

package timed

import (
	"time"

	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// The metrics that it serves beside the scheduler's.
const (
	// Nanoseconds is what the calls of a plugin took, by plugin and extension point. Plugins' calls of one cycle run beside one another: it is
	// what they took of all cores, and with it what others held them up on a busy machine, in proportion.
	Nanoseconds = "bench_plugin_nanoseconds_total"
	// Calls counts them.
	Calls = "bench_plugin_calls_total"
	// Clock is what of each call's time is the stopwatch's own.
	Clock = "bench_stopwatch_nanoseconds"
)

var (
	nanoseconds = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: Nanoseconds, Help: "Time in calls of a plugin.", StabilityLevel: metrics.ALPHA,
	}, []string{"plugin", "point"})
	calls = metrics.NewCounterVec(&metrics.CounterOpts{
		Name: Calls, Help: "Calls of a plugin.", StabilityLevel: metrics.ALPHA,
	}, []string{"plugin", "point"})
	own = metrics.NewGauge(&metrics.GaugeOpts{
		Name: Clock, Help: "What of each call's time is the stopwatch's own.", StabilityLevel: metrics.ALPHA,
	})
)

// register has the scheduler serve the metrics. It is called once.
func register() {
	legacyregistry.MustRegister(nanoseconds, calls, own)
	const tries = 1_000_000
	var sum time.Duration
	for range tries {
		began := time.Now()
		sum += time.Since(began)
	}
	own.Set(float64(sum.Nanoseconds()) / tries)
}

// stopwatch sums up the calls of a plugin at an extension point.
type stopwatch struct {
	nanoseconds, calls metrics.CounterMetric
}

func newStopwatch(plugin, point string) stopwatch {
	return stopwatch{nanoseconds: nanoseconds.WithLabelValues(plugin, point), calls: calls.WithLabelValues(plugin, point)}
}

// since adds a call that began then.
func (s stopwatch) since(began time.Time) {
	s.nanoseconds.Add(float64(time.Since(began).Nanoseconds()))
	s.calls.Inc()
}
