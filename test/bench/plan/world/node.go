// SPDX-License-Identifier: Apache-2.0

// Package world plays the evacuation of nodes: it draws nodes from stated distributions, lets a planner save their pods while the node is
// not quite as fast as the planner takes it to be, and finds the exact optimum of small ones.
package world

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/cryopod/cryopod/pkg/plan"
)

// The distributions. Pods: log-uniform from 1 to MaxPods. Memory: lognormal. Rates: lognormal, dump and push each. Notice: 30 s or 120 s,
// equally often. Value: 100 (the default) for half of the pods, else log-uniform from 1 to 10,000; priority: 0 for most.
const (
	MaxPods      = 250
	Small        = 7 // pods of a node whose optimum is looked for
	medianBytes  = 192 << 20
	spreadBytes  = 1.3
	leastBytes   = 2 << 20
	mostBytes    = 64 << 30
	medianRate   = 200e6
	spreadRate   = 0.7
	Latency      = 300 * time.Millisecond
	Slots        = 4
	noiseOfBytes = 0.15 // of each pod's memory against its estimate: sigma of a lognormal
	noiseOfRates = 0.25 // of the node's rates against their estimates
	drift        = 0.08 // of the rates at each step of time, as a random walk
	stepOfDrift  = 5.0  // seconds
)

// Pod is one pod of a node.
type Pod struct {
	// ID names it.
	ID string
	// Estimate is what the planner takes it to have, True what is dumped.
	Estimate int64
	True     float64
	// Weight is what it is worth.
	Weight float64
}

// Node is a node that has been given notice.
type Node struct {
	// Pods are the pods in the order in which they came.
	Pods []Pod
	// Notice is how long the node has.
	Notice float64
	// Dump and Push are the rates as the planner takes them to be at first.
	Dump, Push float64
	// dumps and pushes are the true ones of each stepOfDrift.
	dumps, pushes []float64
}

// Draw draws a node.
func Draw(r *rand.Rand) Node { return draw(r, int(math.Exp(r.Float64()*math.Log(MaxPods+1)))) }

// Full draws a node with MaxPods pods.
func Full(r *rand.Rand) Node { return draw(r, MaxPods) }

func draw(r *rand.Rand, pods int) Node {
	n := Node{Notice: 30}
	if r.IntN(2) == 1 {
		n.Notice = 120
	}
	n.Dump = medianRate * math.Exp(spreadRate*r.NormFloat64())
	n.Push = medianRate * math.Exp(spreadRate*r.NormFloat64())
	n.dumps, n.pushes = n.walk(r, n.Dump), n.walk(r, n.Push)
	for k := range pods {
		bytes := math.Min(math.Max(medianBytes*math.Exp(spreadBytes*r.NormFloat64()), leastBytes), mostBytes)
		value, priority := int64(plan.DefaultValue), int32(0)
		if r.IntN(2) == 1 {
			value = int64(math.Exp(r.Float64() * math.Log(10_000)))
		}
		if r.IntN(4) == 0 {
			priority = []int32{-10, 1000, 10_000, 1_000_000}[r.IntN(4)]
		}
		n.Pods = append(n.Pods, Pod{
			ID: fmt.Sprintf("pod-%03d", k), Estimate: int64(bytes), True: bytes * math.Exp(noiseOfBytes*r.NormFloat64()),
			Weight: plan.Weight(value, priority),
		})
	}
	return n
}

func (n *Node) walk(r *rand.Rand, estimate float64) []float64 {
	rate := estimate * math.Exp(noiseOfRates*r.NormFloat64())
	var all []float64
	for t := 0.0; t < n.Notice; t += stepOfDrift {
		all = append(all, rate)
		rate *= math.Exp(drift * r.NormFloat64())
	}
	return all
}

// Calm is the same node without surprises: its rates and its pods' memory are as they are estimated.
func (n *Node) Calm() Node {
	calm := Node{Notice: n.Notice, Dump: n.Dump, Push: n.Push}
	for range n.dumps {
		calm.dumps, calm.pushes = append(calm.dumps, n.Dump), append(calm.pushes, n.Push)
	}
	for _, p := range n.Pods {
		p.True = float64(p.Estimate)
		calm.Pods = append(calm.Pods, p)
	}
	return calm
}

// Total is the weight of all pods.
func (n *Node) Total() float64 {
	sum := 0.0
	for _, p := range n.Pods {
		sum += p.Weight
	}
	return sum
}

func at(rates []float64, t float64) float64 {
	return rates[min(int(t/stepOfDrift+1e-9), len(rates)-1)]
}

// capacity is what a stage can do from t to the end of the notice.
func (n *Node) capacity(rates []float64, t float64) float64 {
	sum := 0.0
	for k, rate := range rates {
		from, to := math.Max(t, float64(k)*stepOfDrift), math.Min(n.Notice, float64(k+1)*stepOfDrift)
		sum += rate * math.Max(to-from, 0)
	}
	return sum
}

// Steady is a node whose rates are 1 byte a second and known, for tests.
func Steady(notice float64, bytes, weights []float64) Node {
	n := Node{Notice: notice, Dump: 1, Push: 1}
	for t := 0.0; t < notice; t += stepOfDrift {
		n.dumps, n.pushes = append(n.dumps, 1), append(n.pushes, 1)
	}
	for k := range bytes {
		n.Pods = append(n.Pods, Pod{ID: fmt.Sprintf("pod-%03d", k), Estimate: int64(bytes[k]), True: bytes[k], Weight: weights[k]})
	}
	return n
}
