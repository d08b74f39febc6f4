// SPDX-License-Identifier: Apache-2.0

package timeline

import (
	"fmt"
	"io"
	"time"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// Seconds is a duration as reports give it.
type Seconds float64

// Phases are the parts of a move, in order, without overlap. A part that was not measured is nil.
type Phases struct {
	// Freeze, Dump and Export are the agent's: until the pod stands still, until its state is on the disk, until it is in the registry.
	Freeze *Seconds `json:"freeze,omitempty"`
	Dump   *Seconds `json:"dump,omitempty"`
	Export *Seconds `json:"export,omitempty"`
	// Evict is until the replacement exists, Schedule until it has a node.
	Evict    *Seconds `json:"evict,omitempty"`
	Schedule *Seconds `json:"schedule,omitempty"`
	// Pull is what the kubelet spent on the replacement's images, Restore the rest until its first step.
	Pull    *Seconds `json:"pull,omitempty"`
	Restore *Seconds `json:"restore,omitempty"`
}

// Observations are what is known of one move.
type Observations struct {
	// Requested is when the eviction was asked for.
	Requested time.Time
	// Timings are those of the PodCheckpoint.
	Timings []v1alpha1.PhaseTiming
	// Replacement is what was seen of the new pod.
	Replacement Seen
	// Move is the recorder's.
	Move recorder.Move
}

func (o Observations) entered(p v1alpha1.Phase) time.Time {
	for _, t := range o.Timings {
		if t.Phase == p {
			return t.Time.Time
		}
	}
	return time.Time{}
}

// Phases computes the parts of the move.
func (o Observations) Phases() Phases {
	ready := o.entered(v1alpha1.PhaseReady)
	p := Phases{
		Freeze:   between(o.entered(v1alpha1.PhaseFreezing), o.entered(v1alpha1.PhaseDumping)),
		Dump:     between(o.entered(v1alpha1.PhaseDumping), o.entered(v1alpha1.PhaseExporting)),
		Export:   between(o.entered(v1alpha1.PhaseExporting), ready),
		Evict:    between(ready, o.Replacement.Created),
		Schedule: between(o.Replacement.Created, o.Replacement.Bound),
	}
	if o.Replacement.Pulled == nil {
		return p
	}
	pull := Seconds(o.Replacement.Pulled.Seconds())
	p.Pull = &pull
	p.Restore = between(o.pulled(), o.Move.First.Time)
	return p
}

func between(from, to time.Time) *Seconds {
	if from.IsZero() || to.IsZero() {
		return nil
	}
	s := Seconds(to.Sub(from).Seconds())
	return &s
}

// Print writes the move down for people, each line with the time since the eviction was asked for.
func (o Observations) Print(w io.Writer) {
	p := o.Phases()
	rows := []struct {
		at   time.Time
		name string
		took *Seconds
		what string
	}{
		{o.Requested, "request", nil, "kubectl asks for the eviction"},
		{o.entered(v1alpha1.PhaseFreezing), "freeze", p.Freeze, "all containers of the pod stand still"},
		{o.entered(v1alpha1.PhaseDumping), "dump", p.Dump, "the kubelet and CRIU write memory and state down"},
		{o.entered(v1alpha1.PhaseExporting), "push", p.Export, "packed as an image and sent to the registry"},
		{o.entered(v1alpha1.PhaseReady), "evict", p.Evict, "the eviction is let through; the owner makes a replacement"},
		{o.Replacement.Created, "schedule", p.Schedule, "the replacement gets a node that can restore it"},
		{o.Replacement.Bound, "pull", p.Pull, "the node pulls the checkpoint image"},
		{o.pulled(), "restore", p.Restore, "sandbox, mounts, CRIU; until the first step is recorded"},
		{o.Move.First.Time, "running", nil, fmt.Sprintf("step %d arrives from %s", o.Move.First.Step, o.Move.First.Node)},
	}
	for _, r := range rows {
		if r.at.IsZero() {
			fmt.Fprintf(w, "  %9s  %-9s %9s  %s\n", "not seen", r.name, "", r.what)
			continue
		}
		took := ""
		if r.took != nil {
			took = fmt.Sprintf("%.2f s", float64(*r.took))
		}
		fmt.Fprintf(w, "  %+7.2f s  %-9s %9s  %s\n", r.at.Sub(o.Requested).Seconds(), r.name, took, r.what)
	}
}

// pulled is when the images would have been there if their pulls had begun at once: what came between counts as restore.
func (o Observations) pulled() time.Time {
	if o.Replacement.Pulled == nil || o.Replacement.Bound.IsZero() {
		return time.Time{}
	}
	return o.Replacement.Bound.Add(*o.Replacement.Pulled)
}
