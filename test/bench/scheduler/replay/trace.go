// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// shape is a kind of machine.
type shape struct {
	name      string
	cpu       int64   // millicores that pods may request
	memory    int64   // bytes
	disk      int64   // bytes for images
	pull      float64 // bytes a second from the registry
	unpack    float64 // compressed bytes a second
	restoring float64 // bytes a second of a checkpoint
}

var shapes = []shape{
	{"small", 3900, 15 << 30, 20 << 30, 40 * mib, 90 * mib, 500 * mib},
	{"medium", 7900, 30 << 30, 40 << 30, 80 * mib, 120 * mib, 600 * mib},
	{"compute", 7900, 15 << 30, 40 << 30, 100 * mib, 150 * mib, 700 * mib},
	{"large", 15900, 61 << 30, 80 << 30, 120 * mib, 150 * mib, 700 * mib},
}

// The pools of nodes, a quarter of them each.
const (
	spotCalm    = iota // interrupted rarely, but for one wave
	spotBusy           // interrupted often, and one wave
	preemptible        // each node lives for 24 hours
	onDemand           // never interrupted; upgraded node by node during the day
	pools
)

var poolNames = [pools]string{"spot-calm", "spot-busy", "preemptible", "on-demand"}

// monthly is the share of a spot pool's nodes that are interrupted in a month.
var monthly = [pools]float64{spotCalm: 0.04, spotBusy: 0.22}

const zones = 3

// slot is a place for a node: when one goes, the next one of the slot comes, empty.
type slot struct {
	pool  int
	shape shape
	zone  int
	// extra slots have a node during the busy hours only.
	extra bool
}

func (s slot) name(i, generation int) string {
	return fmt.Sprintf("%s-%s-%03d-%d", poolNames[s.pool], s.shape.name, i, generation)
}

// owner is what makes pods.
type owner struct {
	cpu, memory int64 // of each pod
	replicas    int   // in the busiest hour
	swings      bool  // with the time of day
	first       *image
	saved       int64 // bytes of a pod's checkpoint
	pushed      int64 // what of them goes through the registry
}

// event is something that happens to the cluster from outside.
type event struct {
	at   time.Duration
	kind kind
	slot int
	app  int
	// image is what is rolled out.
	image *image
}

type kind int

const (
	interrupted kind = iota
	upgraded
	added
	removed
	rolledOut
	scaled
)

// trace is all that happens to a cluster, whoever schedules. The first warmup of it is not counted.
type trace struct {
	slots  []slot
	owners []owner
	events []event
	warmup time.Duration
	end    time.Duration
}

// busiest is the hour of the day with the most work.
const busiest = 14

// swing is the share of its most replicas that an owner has who swings with the time of day.
func swing(at time.Duration) float64 {
	return 0.75 + 0.25*math.Cos((at.Hours()-busiest)/24*2*math.Pi)
}

// draw makes the trace of a seed. The warm-up is the evening and night before.
func draw(cfg Config, seed uint64) *trace {
	r := rand.New(rand.NewPCG(seed, 5))
	t := &trace{warmup: cfg.Warmup, end: cfg.Warmup + cfg.Day}
	var cpu int64
	for i := range cfg.Nodes {
		s := slot{pool: i % pools, shape: shapes[i/pools%len(shapes)], zone: r.IntN(zones)}
		t.slots = append(t.slots, s)
		cpu += s.shape.cpu
	}
	for range cfg.Nodes / 15 {
		t.slots = append(t.slots, slot{pool: onDemand, shape: shapes[1], zone: r.IntN(zones), extra: true})
	}
	recipes := t.drawOwners(r, cfg.Apps, float64(cpu)*0.65)
	t.drawNodes(r)
	t.drawRollouts(r, recipes)
	for at := 30 * time.Minute; at < t.end; at += 30 * time.Minute {
		for i, o := range t.owners {
			if o.swings {
				t.events = append(t.events, event{at: at, kind: scaled, app: i})
			}
		}
	}
	slices.SortStableFunc(t.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return t
}

// hour is an hour of the counted day, which begins at midnight. In a short day all hours are shorter.
func (t *trace) hour(h float64) time.Duration {
	return t.warmup + time.Duration(h/24*float64(t.end-t.warmup))
}

// clock is the time of day.
func (t *trace) clock(at time.Duration) time.Duration {
	return time.Duration(float64(at-t.warmup) / float64(t.end-t.warmup) * 24 * float64(time.Hour))
}

// drawOwners draws owners whose pods request so many millicores in the busiest hour. A few are large and most are small.
func (t *trace) drawOwners(r *rand.Rand, n int, cpu float64) []recipe {
	var recipes []recipe
	var raw float64
	for i := range n {
		o := owner{
			cpu:    []int64{100, 100, 250, 250, 250, 500, 500, 1000, 1000, 2000}[r.IntN(10)],
			swings: i%2 == 0,
			saved:  lognormal(r, 160, 0.8, 2000),
		}
		o.memory = o.cpu * 2 << 20
		o.pushed = o.saved * 2 / 5
		c := newRecipe(r, i)
		o.first = c.build()
		recipes = append(recipes, c)
		t.owners = append(t.owners, o)
		raw += float64(o.cpu) * math.Pow(float64(i+1), -0.7)
	}
	for i := range t.owners {
		t.owners[i].replicas = max(1, int(math.Round(cpu/raw*math.Pow(float64(i+1), -0.7))))
	}
	return recipes
}

// drawNodes draws what happens to nodes.
func (t *trace) drawNodes(r *rand.Rand) {
	waves := [pools]time.Duration{}
	for pool := range waves {
		waves[pool] = t.warmup + time.Duration(r.Float64()*float64(t.end-t.warmup))
	}
	nth := 0
	for i, s := range t.slots {
		add := func(at time.Duration, k kind) {
			if at < t.end {
				t.events = append(t.events, event{at: at, kind: k, slot: i})
			}
		}
		switch {
		case s.extra:
			add(t.hour(9), added)
			add(t.hour(19), removed)
		case s.pool == preemptible:
			for at := time.Duration(r.Float64() * float64(24*time.Hour)); at < t.end; at += 24 * time.Hour {
				add(at, interrupted)
			}
		case s.pool == onDemand:
			add(t.hour(9+float64(nth)/7.5), upgraded)
			nth++
		default:
			if r.Float64() < monthly[s.pool]*(t.end-t.warmup).Hours()/24/30 {
				add(t.warmup+time.Duration(r.Float64()*float64(t.end-t.warmup)), interrupted)
			}
			if r.Float64() < 1./3 {
				add(waves[s.pool]+time.Duration(r.Float64()*float64(10*time.Minute)), interrupted)
			}
		}
	}
}

// drawRollouts draws them in working hours: of four owners one rolls out three times a day, two every other day and one once a week.
func (t *trace) drawRollouts(r *rand.Rand, recipes []recipe) {
	days := (t.end - t.warmup).Hours() / 24
	for i, c := range recipes {
		mean := []float64{3, 0.5, 0.5, 1. / 7}[i%4] * days
		for at := r.ExpFloat64() / mean; at < 1; at += r.ExpFloat64() / mean {
			c = c.next(r)
			t.events = append(t.events, event{at: t.hour(9 + at*9), kind: rolledOut, app: i, image: c.build()})
		}
	}
}
