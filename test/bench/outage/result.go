// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/test/bench/outage/judge"
	"github.com/cryopod/cryopod/test/bench/outage/load"
	"github.com/cryopod/cryopod/test/bench/outage/service"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// failOpen counts the calls that the API server passed over, by webhooks whose names begin so.
func (r *Result) failOpen(prefix string) float64 {
	n := 0.0
	for name, calls := range r.FailOpen {
		if strings.HasPrefix(name, prefix) {
			n += calls
		}
	}
	return n
}

// passedOver counts the pods of the kind that the webhook did not answer about.
func (r *Result) passedOver(kind string) int { return r.Counts[kind].Verdicts[judge.PassedOver] }

// lost counts the requests that the Service lost at the end of a replica.
func (r *Result) lost() (n int) {
	for _, failures := range r.Failures {
		n += failures
	}
	return n
}

// Unexplained counts the calls that the API server passed over and that the Service did not lose: refused handshakes, time-outs, errors.
func (r *Result) Unexplained() float64 { return math.Max(0, r.failOpen("")-float64(r.lost())) }

// WrongAnswers counts what was answered wrongly: pods half made or made without need, checkpoints given twice, and opted-in pods without
// Cryopod although no call about them failed.
func (r *Result) WrongAnswers() float64 {
	n := float64(len(r.Wrong)) + r.Rejected
	again := r.failOpen("pods-again")
	n += math.Max(0, float64(r.passedOver(load.OptedIn)+r.passedOver(load.Replacement))-again)
	return n + math.Max(0, float64(r.passedOver(load.Once))-(r.failOpen("pods.")))
}

// Complaints are the first of what went wrong, in words.
func (r *Result) Complaints() []string {
	var lines []string
	add := func(what string, all []string) {
		for _, line := range all[:min(len(all), 10)] {
			lines = append(lines, what+": "+line)
		}
	}
	var failed, ended, errs []string
	for _, err := range r.Errors {
		errs = append(errs, err.Error())
	}
	for _, err := range r.Failed {
		failed = append(failed, err.Error())
	}
	for _, err := range r.EndErrors {
		ended = append(ended, err.Error())
	}
	add("failed", failed)
	add("wrong", r.Wrong)
	add("ended badly", ended)
	add("beside", errs)
	add("refused", r.Refused)
	add("forbidden", r.Forbidden)
	lines = append(lines, fmt.Sprintf("passed over by the API server: %v, rejected %v; lost by the Service: %v", r.FailOpen, r.Rejected, r.Failures))
	return lines
}

// Metrics are the report's.
func (r *Result) Metrics() map[string]report.Metric {
	zero := ptr.To(0.0)
	count := func(n float64, unit string) report.Metric {
		return report.Metric{Value: n, Unit: unit, Better: "lower"}
	}
	none := func(n float64, unit string) report.Metric {
		return report.Metric{Value: n, Unit: unit, Better: "lower", Goal: zero}
	}
	done := func(n int, unit string) report.Metric {
		return report.Metric{Value: float64(n), Unit: unit, Better: "higher"}
	}
	opted := r.Counts[load.OptedIn]
	m := map[string]report.Metric{
		"creates":               done(r.creates(), "pods"),
		"kills":                 done(r.Kills, "replicas"),
		"terminations":          done(r.Terminations, "replicas"),
		"rotations":             done(r.Rotated, "certificates"),
		"failed_creates":        none(float64(len(r.Failed)), "requests"),
		"wrong_answers":         none(r.WrongAnswers(), "pods"),
		"calls_lost_by_sigterm": none(float64(r.Failures[service.Terminated]), "calls"),
		"calls_lost_by_sigkill": count(float64(r.Failures[service.Killed]), "calls"),
		"calls_lost_by_nobody":  count(float64(r.Failures[service.Nobody]), "calls"),
		"calls_lost_otherwise":  none(r.Unexplained(), "calls"),
		"refused_handshakes":    none(float64(len(r.Refused)), "handshakes"),
		"passed_over":           count(float64(r.passedOver(load.OptedIn)+r.passedOver(load.Replacement)), "pods"),
		"restored":              done(r.Counts[load.Replacement].Restored, "pods"),
	}
	if rival := r.Counts[load.Once]; opted.Made > 0 && rival.Made > 0 {
		share := func(kind string, of load.Count) float64 { return 1000 * float64(r.passedOver(kind)) / float64(of.Made) }
		m["passed_over_share"] = count(share(load.OptedIn, opted), "of 1000 pods").Against("asked once", share(load.Once, rival))
	}
	r.durations(m)
	return m
}

func (r *Result) creates() (n int) {
	for _, c := range r.Counts {
		n += c.Made
	}
	return n
}

func (r *Result) durations(m map[string]report.Metric) {
	at := func(sorted []time.Duration, p float64) float64 {
		return float64(sorted[int(p*float64(len(sorted)-1))].Microseconds()) / 1000
	}
	for kind, name := range map[string]string{load.OptedIn: "opted_in", load.Other: "not_opted_in"} {
		took := slices.Sorted(slices.Values(r.Counts[kind].Took))
		if len(took) == 0 {
			continue
		}
		m["create_p50_"+name] = report.Metric{Value: at(took, 0.5), Unit: "ms", Better: "lower"}
		m["create_p99_"+name] = report.Metric{Value: at(took, 0.99), Unit: "ms", Better: "lower"}
		m["create_max_"+name] = report.Metric{Value: at(took, 1), Unit: "ms", Better: "lower"}
	}
	if starts := slices.Sorted(slices.Values(r.Starts)); len(starts) > 0 {
		m["ready_after_p50"] = report.Metric{Value: at(starts, 0.5), Unit: "ms", Better: "lower"}
	}
}
