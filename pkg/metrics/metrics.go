// SPDX-License-Identifier: Apache-2.0

// Package metrics holds the names, buckets and label values of every metric of Cryopod, registered in controller-runtime's
// registry.
//
// Each label is a Go type with a closed set of values: none ever carries the name of a pod, a node or a namespace. A change
// of a PodCheckpoint's phase is counted by whoever wrote it, after the write has succeeded, so that nothing is counted twice.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// Namespace is the first part of every metric's name.
const Namespace = "cryopod"

// The second part of the names: what the metric is about.
const (
	SubsystemCheckpoint = "checkpoint"
	SubsystemClaim      = "claim"
	SubsystemRestore    = "restore"
	SubsystemAdmission  = "admission"
	SubsystemEviction   = "eviction"
	SubsystemAgent      = "agent"
	SubsystemScheduler  = "scheduler"
	// SubsystemRemoval is about pods that Cryopod ends itself, SubsystemTermination about nodes that end.
	SubsystemRemoval     = "removal"
	SubsystemTermination = "termination"
	SubsystemRetention   = "retention"
)

// SecondsBuckets are the upper bounds, in seconds, of every histogram of durations: from a small process on a fast disk (50 ms)
// to the default deadline of an eviction (2 min).
func SecondsBuckets() []float64 {
	return []float64{0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 20, 30, 60, 120}
}

// BytesBuckets are the upper bounds, in bytes, of every histogram of sizes: 1 MiB to 64 GiB.
func BytesBuckets() []float64 {
	return prometheus.ExponentialBuckets(1<<20, 4, 9)
}

func counter(subsystem, name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: Namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	ctrlmetrics.Registry.MustRegister(c)
	return c
}

func gauge(subsystem, name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: Namespace, Subsystem: subsystem, Name: name, Help: help}, labels)
	ctrlmetrics.Registry.MustRegister(g)
	return g
}

func histogram(subsystem, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: Namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets,
	}, labels)
	ctrlmetrics.Registry.MustRegister(h)
	return h
}

// seconds is d for a histogram; a clock that went back between two machines counts as no time at all.
func seconds(d time.Duration) float64 {
	return max(d, 0).Seconds()
}
