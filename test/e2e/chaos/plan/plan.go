// SPDX-License-Identifier: Apache-2.0

// Package plan draws from a number what an attack does: the same number, faults and checkout give the same plan.
package plan

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Kind is a kind of controller.
type Kind string

// The kinds.
const (
	Deployment  Kind = "Deployment"
	StatefulSet Kind = "StatefulSet"
	// Job is one with indexes.
	Job Kind = "Job"
)

// Trigger is the way in which pods are made to go.
type Trigger string

// The triggers.
const (
	// Evict asks for each pod's eviction again and again, as a controller does.
	Evict Trigger = "evict"
	// Drain is kubectl drain.
	Drain Trigger = "drain"
	// Drains are two of them at once.
	Drains Trigger = "two-drains"
	// Spot is a notice of 120 s, Impending one of 30 s, by taints.
	Spot      Trigger = "spot"
	Impending Trigger = "impending"
	// Maintenance is a taint with NoExecute that announces nothing: the taint manager deletes the pods.
	Maintenance Trigger = "taint-manager"
	// Delete is a user's deletion of pods that want to be saved then.
	Delete Trigger = "delete"
	// Preempt is a pod of higher priority that needs the room.
	Preempt Trigger = "preempt"
	// Death is the sudden end of the node of pods that are saved on a schedule.
	Death Trigger = "node-death"
)

// Workload is a controller with one pod.
type Workload struct {
	Kind Kind
	// Containers is how many containers count, Mebibytes how much memory each of them holds.
	Containers int
	Mebibytes  int
	// Probed is whether it has a liveness probe.
	Probed bool
}

// Strike is a fault with its moment.
type Strike struct {
	Fault string
	// Phase is that of a PodCheckpoint at which the fault is made; empty where Delay alone counts, from the trigger on.
	Phase v1alpha1.Phase
	Delay time.Duration
	// Length is after how long it is undone.
	Length time.Duration
	// Target has it strike the other node, to which the pods go, if it strikes a node.
	Target bool
	// Seed is for what the fault itself draws.
	Seed uint64
}

// Plan is one run.
type Plan struct {
	Seed      uint64
	Source    int
	Workloads []Workload
	Trigger   Trigger
	Strikes   []Strike
}

// AllDown is the fault that takes all of Cryopod away. It comes alone: what is tried meanwhile would suffer from others.
const AllDown = "all-down"

// isolating are the faults that keep a node from hearing of the world.
var isolating = []string{"node-cut", "node-frozen", "api-cut-node", "api-cut-agents"}

const (
	maxWorkloads = 3
	maxStrikes   = 3
	maxDelay     = 6 * time.Second
	// Lengths are short for the most part; one in longEvery lasts for up to longLength, and what keeps a node from hearing that its pod lives
	// elsewhere for longer than a fence, which is 30 s.
	shortLength = 8 * time.Second
	longLength  = 20 * time.Second
	fenceLength = 45 * time.Second
	longEvery   = 6
	// stream keeps numbers that follow one another from giving similar plans.
	stream = 0x9e3779b97f4a7c15
)

// triggers are the triggers by their weights.
var triggers = []struct {
	trigger Trigger
	weight  int
}{
	{Evict, 24}, {Drain, 24}, {Drains, 16}, {Spot, 10}, {Impending, 8}, {Maintenance, 8}, {Delete, 8}, {Preempt, 5}, {Death, 3},
}

// phases are the moments to strike at, in order. A phase that is passed by too quickly to be seen counts as soon as a later one is seen.
var phases = []v1alpha1.Phase{
	v1alpha1.PhasePending, v1alpha1.PhaseFreezing, v1alpha1.PhaseDumping, v1alpha1.PhaseExporting, v1alpha1.PhaseReady,
	v1alpha1.PhaseClaimed, v1alpha1.PhaseRestored,
}

// Draw makes the plan of a number, of the faults of those names and on so many nodes.
func Draw(seed uint64, faults []string, nodes int) Plan {
	r := rand.New(rand.NewPCG(seed, stream))
	p := Plan{Seed: seed, Source: r.IntN(nodes), Trigger: drawTrigger(r)}
	n := 1 + r.IntN(maxWorkloads)
	if p.Trigger == Preempt {
		n = 1
	}
	for range n {
		p.Workloads = append(p.Workloads, drawWorkload(r))
	}
	if len(faults) > 0 {
		for range 1 + r.IntN(maxStrikes) {
			p.Strikes = append(p.Strikes, drawStrike(r, faults))
		}
		for _, s := range p.Strikes {
			if s.Fault == AllDown {
				p.Strikes = []Strike{s}
				break
			}
		}
	}
	return p
}

func drawTrigger(r *rand.Rand) Trigger {
	sum := 0
	for _, t := range triggers {
		sum += t.weight
	}
	at := r.IntN(sum)
	for _, t := range triggers {
		if at -= t.weight; at < 0 {
			return t.trigger
		}
	}
	return Evict
}

func drawWorkload(r *rand.Rand) Workload {
	w := Workload{Kind: Deployment, Containers: 1, Mebibytes: 8}
	switch r.IntN(5) {
	case 0:
		w.Kind = StatefulSet
	case 1:
		w.Kind = Job
	}
	switch r.IntN(4) {
	case 0:
		w.Containers = 2
	case 1:
		w.Mebibytes = 64
	}
	w.Probed = r.IntN(4) == 0
	return w
}

func drawStrike(r *rand.Rand, faults []string) Strike {
	s := Strike{Fault: faults[r.IntN(len(faults))], Target: r.IntN(4) == 0, Seed: r.Uint64()}
	s.Length = between(r, time.Second, shortLength)
	if r.IntN(longEvery) == 0 {
		from, to := shortLength, longLength
		if slices.Contains(isolating, s.Fault) {
			from, to = longLength, fenceLength
		}
		s.Length = between(r, from, to)
	}
	if r.IntN(3) == 0 {
		s.Delay = between(r, 0, maxDelay)
		return s
	}
	s.Phase = phases[r.IntN(len(phases))]
	s.Delay = between(r, 0, time.Second/2)
	return s
}

func between(r *rand.Rand, from, to time.Duration) time.Duration {
	d := from + time.Duration(r.Int64N(int64(to-from)))
	return d.Round(10 * time.Millisecond)
}

// Reached tells whether a PodCheckpoint in the phase now has come to the moment of the phase wanted. One that failed or was released has not,
// unless it had begun.
func Reached(now, wanted v1alpha1.Phase) bool {
	return order(now) >= order(wanted)
}

func order(p v1alpha1.Phase) int {
	for i, known := range phases {
		if p == known {
			return i
		}
	}
	// An attempt that is over without success had begun, and no more is known.
	if p.Final() {
		return order(v1alpha1.PhaseFreezing)
	}
	return order(v1alpha1.PhasePending)
}

// String tells the plan in a line.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of", p.Trigger)
	for i, w := range p.Workloads {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " %s", w)
	}
	for i, s := range p.Strikes {
		sep := ", "
		if i == 0 {
			sep = "; "
		}
		fmt.Fprintf(&b, "%s%s", sep, s)
	}
	return b.String()
}

func (w Workload) String() string {
	s := string(w.Kind)
	if w.Containers > 1 {
		s += fmt.Sprintf("×%d", w.Containers)
	}
	if w.Probed {
		s += "+probe"
	}
	return fmt.Sprintf("%s(%d MiB)", s, w.Mebibytes)
}

func (s Strike) String() string {
	where := ""
	if s.Target {
		where = " (other node)"
	}
	when := fmt.Sprintf("after %v", s.Delay)
	if s.Phase != "" {
		when = fmt.Sprintf("at %s+%v", s.Phase, s.Delay)
	}
	return fmt.Sprintf("%s%s %s for %v", s.Fault, where, when, s.Length)
}
