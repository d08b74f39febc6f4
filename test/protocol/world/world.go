// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"sync"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Namespace is where everything happens.
const Namespace = "ns"

// span is how long a schedule may take, in the world's time. It is longer than all of Cryopod's bounds.
const span = 20 * time.Minute

// Plan is what happens otherwise than by the fair order, by the number of the point. Nothing else makes one schedule differ from another.
type Plan map[int]string

// Point is a moment at which something may happen otherwise.
type Point struct {
	// Where tells what is about to happen.
	Where string
	// Options are what may happen instead.
	Options []string
}

// Result is what came of a schedule.
type Result struct {
	// Points are those that the schedule came by.
	Points []Point
	// States are hashes of the states that it came through.
	States []uint64
	// Violation is what must not happen and did, nil when nothing.
	Violation *Violation
	// Story is what happened, line by line, where it was asked for.
	Story []string
	// Took is how long it took in the world's time.
	Took time.Duration
	// Err is why the world itself does not work.
	Err error
}

// World is everything there is, in one schedule.
type World struct {
	script Script
	plan   Plan
	dir    string
	talks  bool
	begin  time.Time
	end    time.Time
	result Result

	// The API server.
	objects           snapshot
	caches            []*cache
	version, uids     int
	names, requests   int
	refuse, reinvoke  int
	asks              map[types.UID]time.Time
	disturbed         bool
	nodes             []*Node
	images            map[string]*Image
	ids, memories     int
	lives, turn       int
	procs             map[string]*Proc
	agent             *agent
	kubelets          []*kubelet
	replicas          map[string]*replica
	users, usersEnded int
	changed           bool
	wanted            int
	promised          bool // that the pod goes as soon as it is saved
	wake              func()

	woken chan struct{}

	mu       sync.Mutex
	arriving []*op
	pending  []*op
	ready    []*item
	agenda   []*entry
	round    int
}

// Run runs one schedule of the script in the bubble that it is called in. Ledgers go to dir, which no other schedule uses meanwhile.
func Run(s Script, plan Plan, dir string, story bool) Result {
	w := &World{
		script: s, plan: plan, dir: dir, talks: story, begin: time.Now(), end: time.Now().Add(span),
		objects: snapshot{}, asks: map[types.UID]time.Time{}, images: map[string]*Image{}, procs: map[string]*Proc{},
		replicas: map[string]*replica{}, woken: make(chan struct{}, 1), refuse: s.Refuse,
	}
	if s.Reinvoke {
		w.reinvoke = 1
	}
	w.populate()
	w.loop()
	w.result.Took = time.Since(w.begin)
	w.shut()
	return w.result
}

func (w *World) loop() {
	for w.result.Violation == nil && w.result.Err == nil {
		synctest.Wait()
		w.check()
		if w.work() || w.due() {
			continue
		}
		if o := w.next(); o != nil {
			w.decide(o)
			continue
		}
		if w.changed {
			w.changed = false
			w.meanwhile()
			if w.settled() {
				return
			}
			continue
		}
		if !w.pass() {
			break
		}
	}
	if w.result.Violation == nil {
		w.unsettled()
	}
}

// shut ends all processes. What waits for a time gets it: then each goroutine comes to its next call, and ends.
func (w *World) shut() {
	for _, p := range w.procs {
		w.kill(p)
	}
	for range 3 {
		synctest.Wait()
		w.mu.Lock()
		for _, o := range append(w.arriving, w.pending...) {
			o.reply <- verdict{die: true}
		}
		w.arriving, w.pending = nil, nil
		w.mu.Unlock()
		time.Sleep(time.Hour)
	}
}

func (w *World) broken(err error) {
	if w.result.Err == nil {
		w.result.Err = err
	}
}

// tell adds a line to the story.
func (w *World) tell(who, what, how string) {
	w.changed = true
	w.note()
	if !w.talks {
		return
	}
	line := fmt.Sprintf("%04d %8.2fs  %-10s %s", len(w.result.Points)-1, time.Since(w.begin).Seconds(), who, what)
	if how != "" {
		line += " — " + how
	}
	w.result.Story = append(w.result.Story, line)
}

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: Namespace, Name: name}
}

func (w *World) node(name string) *Node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// Source is the pod that the script is about, nil when it is gone.
func (w *World) source() *corev1.Pod {
	pod := w.pod(key(sourcePod))
	if pod == nil || pod.UID != w.script.sourceUID {
		return nil
	}
	return pod
}
