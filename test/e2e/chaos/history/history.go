// SPDX-License-Identifier: Apache-2.0

// Package history is what an attack on a cluster did and saw, one JSON object a line. The engine of test/e2e/chaos writes it, and
// test/e2e/chaos/check judges it; neither knows the other.
package history

import (
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Entry is one thing that was done or seen. Exactly one of the pointers is set.
type Entry struct {
	// Time is when it was done or seen; of what took a while, when it was over.
	Time time.Time `json:"time"`

	Begin      *Begin      `json:"begin,omitempty"`
	Step       *Step       `json:"step,omitempty"`
	Fault      *Fault      `json:"fault,omitempty"`
	Request    *Request    `json:"request,omitempty"`
	Pod        *Pod        `json:"pod,omitempty"`
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
	Event      *Event      `json:"event,omitempty"`
	API        *API        `json:"api,omitempty"`
	Running    *Running    `json:"running,omitempty"`
	Residue    *Residue    `json:"residue,omitempty"`
	Probe      *Probe      `json:"probe,omitempty"`
}

// Begin tells what the run is about. It is the first entry.
type Begin struct {
	Seed uint64 `json:"seed"`
	// Plan is what was drawn, for people.
	Plan      string     `json:"plan"`
	Namespace string     `json:"namespace"`
	Source    string     `json:"source"`
	Workloads []Workload `json:"workloads"`
	// Rewinds is whether pods may go on from a checkpoint of a schedule, and do steps again: their node dies.
	Rewinds bool `json:"rewinds,omitempty"`
}

// Workload is a controller with one pod.
type Workload struct {
	// Name is the value of the pods' label, Kind the controller's kind.
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Containers are the recorder's names of the containers.
	Containers []string `json:"containers"`
	// Pod is the pod that is driven off, and its address.
	PodUID types.UID `json:"podUID"`
	IP     string    `json:"ip"`
}

// StepName is a part of a run.
type StepName string

// The steps of a run, in order.
const (
	// StepTrigger begins when the pods are made to go, and is over when all of them went, or stay for good.
	StepTrigger StepName = "trigger"
	// StepFaults is over when all faults are.
	StepFaults StepName = "faults"
	// StepCalm is over when nothing changes any more.
	StepCalm StepName = "calm"
	// StepEnd is over when what the run made is removed.
	StepEnd StepName = "end"
)

// Step is the beginning or the end of a part of the run.
type Step struct {
	Name StepName `json:"name"`
	Over bool     `json:"over,omitempty"`
	// Error is why it ended without success.
	Error string `json:"error,omitempty"`
	// Detail tells more, for people.
	Detail string `json:"detail,omitempty"`
}

// Fault is a fault made, ended, or left out.
type Fault struct {
	// ID numbers the faults of the run from 1.
	ID   int    `json:"id"`
	Name string `json:"name"`
	// Over is whether this is the fault's end.
	Over bool `json:"over,omitempty"`
	// Skipped is whether it was never made, as its moment did not come.
	Skipped bool   `json:"skipped,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Request is one that a pod go, and its answer.
type Request struct {
	// Verb is "evict" or "delete".
	Verb string    `json:"verb"`
	Pod  string    `json:"pod"`
	UID  types.UID `json:"uid,omitempty"`
	// Took is how long the answer was waited for: the request began that long before the entry's time.
	Took time.Duration `json:"took"`
	// Code is that of the answer; 0 when there was none.
	Code  int    `json:"code,omitempty"`
	Error string `json:"error,omitempty"`
}

// Pod is a pod as it was seen to be.
type Pod struct {
	UID  types.UID `json:"uid"`
	Name string    `json:"name"`
	// Workload is the value of its label.
	Workload string `json:"workload"`
	Node     string `json:"node,omitempty"`
	IP       string `json:"ip,omitempty"`
	Phase    string `json:"phase"`
	// Going is whether it is being deleted, Gone whether its object is away.
	Going bool `json:"going,omitempty"`
	Gone  bool `json:"gone,omitempty"`
	// RestoreFrom and FellBack are Cryopod's annotations.
	RestoreFrom string      `json:"restoreFrom,omitempty"`
	FellBack    string      `json:"fellBack,omitempty"`
	Containers  []Container `json:"containers,omitempty"`
}

// Container is a container of a pod.
type Container struct {
	Name     string `json:"name"`
	Running  bool   `json:"running,omitempty"`
	Restarts int32  `json:"restarts,omitempty"`
	// Reason is why it waits or ended.
	Reason string `json:"reason,omitempty"`
}

// Checkpoint is a PodCheckpoint as it was seen to be.
type Checkpoint struct {
	Name     string           `json:"name"`
	PodUID   types.UID        `json:"podUID"`
	Reason   v1alpha1.Reason  `json:"reason"`
	Removal  v1alpha1.Removal `json:"removal,omitempty"`
	Fence    bool             `json:"fence,omitempty"`
	Deadline time.Time        `json:"deadline,omitzero"`
	Phase    v1alpha1.Phase   `json:"phase"`
	Message  string           `json:"message,omitempty"`
	// Images is how many of its containers have an image by digest, of Containers.
	Images     int       `json:"images,omitempty"`
	Containers int       `json:"containers,omitempty"`
	ClaimedBy  types.UID `json:"claimedBy,omitempty"`
	Gone       bool      `json:"gone,omitempty"`
	// Ready is whether the phase Ready was ever entered, as the object itself tells.
	Ready bool `json:"ready,omitempty"`
}

// Event is a Kubernetes event.
type Event struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// API is a change of whether the API server answers.
type API struct {
	Up bool `json:"up"`
}

// Running says that a workload runs again after all that was done to it.
type Running struct {
	Workload string    `json:"workload"`
	UID      types.UID `json:"uid"`
	IP       string    `json:"ip"`
	Node     string    `json:"node"`
}

// Residue is what was found that should be gone.
type Residue struct {
	Found []string `json:"found"`
	// Error is why it could not be told.
	Error string `json:"error,omitempty"`
}

// Probe is something that has nothing to do with Cryopod, or needs nothing of it, and was tried while all of Cryopod was down.
type Probe struct {
	What string `json:"what"`
	// Request is whether it is a mere request; else pods have to start.
	Request bool          `json:"request,omitempty"`
	Took    time.Duration `json:"took"`
	Error   string        `json:"error,omitempty"`
}

// Log takes entries down. It is safe for concurrent use.
type Log struct {
	mu      sync.Mutex
	w       io.Writer
	entries []Entry
	err     error
}

// NewLog returns a Log that writes to w as well.
func NewLog(w io.Writer) *Log { return &Log{w: w} }

// Add takes an entry down, with the time now where it has none.
func (l *Log) Add(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	l.entries = append(l.entries, e)
	line, err := json.Marshal(e)
	if err == nil {
		_, err = l.w.Write(append(line, '\n'))
	}
	l.err = errors.Join(l.err, err)
}

// Entries are those so far, in the order of their taking down.
func (l *Log) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Entry(nil), l.entries...)
}

// Err tells what could not be written.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
