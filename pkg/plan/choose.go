// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// choice is a set of tasks to be saved, in order, and how many of them may be before their push at once.
type choice struct {
	order  []int
	atOnce int
	weight float64
}

const (
	// few is how many tasks are tried in all combinations.
	few = 8
	// buckets is into how many steps the time until the last deadline is divided.
	buckets = 1536
	// repairs bounds how many sets are played after the table has named the best ones.
	repairs = 24
	// thoroughly is for how many of them each kind of schedule is tried.
	thoroughly = 3
	// extras bounds how many changes of the chosen set are tried.
	extras = 48
)

// rank is an order of tasks with one deadline.
type rank int

const (
	densest  rank = iota // the most weight for its bytes first: what is lost when the node is slower than it seems is worth least
	smallest             // Johnson's order where the push is the slower stage
	largest              // Johnson's order where the dump is
	ranks
)

// choose picks from the waiting tasks that have a deadline those worth most that are all ready in time beside kept.
func (m *model) choose(kept []int) choice {
	m.run(kept, nil, 1)
	for _, i := range kept {
		m.reach[i] = m.ready[i]
	}
	var able []int
	for _, i := range m.dated {
		if own := m.ownTime(i); own <= m.tasks[i].due && own <= m.tasks[i].freeze && m.tasks[i].bytes <= m.room && m.tasks[i].weight > 0 {
			able = append(able, i)
		}
	}
	s := m.search(kept, able)
	if len(able) <= few {
		return s.polish(s.all(able))
	}
	return s.polish(s.improve(able, s.table(able)))
}

// search looks for a set of tasks. It remembers what worked last.
type search struct {
	*model
	kept   []int
	sorted [ranks][]int // all tasks that may be chosen
	in     []bool       // scratch
	rank   rank
	atOnce int
}

func (m *model) search(kept, able []int) *search {
	s := &search{model: m, kept: kept, in: make([]bool, len(m.tasks)), atOnce: 1}
	for r := range ranks {
		s.sorted[r] = s.sort(able, r)
	}
	return s
}

// order is the set in order.
func (s *search) order(set []int, r rank) []int {
	for _, i := range set {
		s.in[i] = true
	}
	order := make([]int, 0, len(set))
	for _, i := range s.sorted[r] {
		if s.in[i] {
			order = append(order, i)
			s.in[i] = false
		}
	}
	return order
}

// all tries every set, those worth most first.
func (s *search) all(able []int) choice {
	sets := make([]choice, 0, 1<<len(able))
	for mask := range 1 << len(able) {
		c := choice{atOnce: mask}
		for k, i := range able {
			if mask>>k&1 == 1 {
				c.weight += s.tasks[i].weight
			}
		}
		sets = append(sets, c)
	}
	// Of equal ones, the one with fewer tasks: it is ready sooner.
	slices.SortFunc(sets, func(a, b choice) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), bits.OnesCount(uint(a.atOnce))-bits.OnesCount(uint(b.atOnce)), a.atOnce-b.atOnce)
	})
	for _, c := range sets {
		var set []int
		for k, i := range able {
			if c.atOnce>>k&1 == 1 {
				set = append(set, i)
			}
		}
		if found, ok := s.fits(set, true); ok {
			return found
		}
	}
	return choice{atOnce: 1}
}

// fits looks for a schedule of the set: the kind that worked last, and if thorough any.
func (s *search) fits(set []int, thorough bool) (choice, bool) {
	if len(set) == 0 {
		return choice{atOnce: 1}, true
	}
	if s.cannot(set) {
		return choice{}, false
	}
	order := s.order(set, s.rank)
	if s.run(s.kept, order, s.atOnce) {
		return s.choice(order, s.atOnce), true
	}
	if !thorough {
		return choice{}, false
	}
	for r := range kinds(set) {
		order := s.order(set, r)
		for _, n := range s.atOnces() {
			if s.run(s.kept, order, n) {
				s.rank, s.atOnce = r, n
				return s.choice(order, n), true
			}
		}
	}
	return choice{}, false
}

// cannot is a quick proof that no schedule of the set exists: the slower stage or the slots alone take too long.
func (s *search) cannot(set []int) bool {
	bytes, busy, last := 0.0, 0.0, 0.0
	least := math.Inf(1)
	for _, i := range set {
		bytes += s.tasks[i].bytes
		busy += s.latency + s.tasks[i].bytes/s.dump + s.tasks[i].bytes/s.push
		least = min(least, s.tasks[i].bytes)
		last = max(last, s.tasks[i].due)
	}
	other := max(s.dump, s.push)
	return s.latency+bytes/min(s.dump, s.push)+least/other > last*(1+tiny) || busy/float64(s.slots) > last*float64(len(set)+s.slots)
}

// kinds is how many orders are tried of a set. Johnson's shorten the end of the schedule by no more than one task's stage; with many tasks
// it counts more that those worth least come last, since the node may turn out to be slower.
func kinds(set []int) rank {
	if len(set) > few {
		return densest + 1
	}
	return ranks
}

func (s *search) choice(order []int, atOnce int) choice {
	c := choice{order: order, atOnce: atOnce}
	for _, i := range order {
		c.weight += s.tasks[i].weight
	}
	return c
}

func (s *search) atOnces() []int {
	all := []int{1}
	for _, n := range []int{2, 4, s.slots} {
		if n <= s.slots && n > all[len(all)-1] {
			all = append(all, n)
		}
	}
	return all
}

func (s *search) sort(set []int, r rank) []int {
	order := slices.Clone(set)
	slices.SortFunc(order, func(a, b int) int {
		x, y := &s.tasks[a], &s.tasks[b]
		c := cmp.Compare(x.due, y.due)
		switch {
		case c != 0:
		case r == densest:
			c = cmp.Compare(y.weight*(x.bytes+s.spare()), x.weight*(y.bytes+s.spare()))
		case r == smallest:
			c = cmp.Compare(x.bytes, y.bytes)
		default:
			c = cmp.Compare(y.bytes, x.bytes)
		}
		return cmp.Or(c, cmp.Compare(a, b))
	})
	return order
}

// spare is what the latency of one task would dump, if its slot were the bottleneck.
func (m *model) spare() float64 { return m.latency * min(m.dump, m.push) / float64(m.slots) }

// table finds good sets by dynamic programming over the time that the bottleneck is taken (Lawler and Moore, Management Science 16, 1969),
// and plays them until one is on time.
func (s *search) table(able []int) choice {
	slices.SortStableFunc(able, func(a, b int) int { return cmp.Compare(s.tasks[a].due, s.tasks[b].due) })
	base := 0.0 // what kept still takes of the slower stage
	for _, i := range s.kept {
		switch t := s.tasks[i]; {
		case t.stage == Pushing && s.push <= s.dump:
			base += t.left / s.push
		case t.stage == Dumping && s.dump < s.push:
			base += t.left / s.dump
		case t.stage != Pushing:
			base += t.bytes / min(s.dump, s.push)
		}
	}
	unit := s.tasks[able[len(able)-1]].due / buckets
	t := newTable(len(able))
	for k, i := range able {
		t.add(k, max(int(s.cost(i)/unit+0.5), 1), int((s.tasks[i].due-base)/unit), s.tasks[i].weight)
	}
	best := choice{atOnce: 1}
	// The fullest set that is on time, by bisection, and then those that are worth more though they are fuller.
	low, high := 0, buckets
	for low < high {
		middle := (low + high + 1) / 2
		if c, ok := s.fits(t.set(able, middle), true); ok {
			low = middle
			if c.weight > best.weight {
				best = c
			}
		} else {
			high = middle - 1
		}
	}
	tries := 0
	for c := low + 1; c <= buckets && tries < repairs; c++ {
		if t.best[c] == t.best[c-1] {
			continue
		}
		tries++
		if found, ok := s.fits(t.set(able, c), tries <= thoroughly); ok && found.weight > best.weight {
			best = found
		}
	}
	return best
}

// cost is how long a task takes up what is scarcest: the slower stage, or a slot.
func (m *model) cost(i int) float64 {
	b := m.tasks[i].bytes
	return max(b/min(m.dump, m.push), (m.latency+b/m.dump+b/m.push)/float64(m.slots))
}

// knapsack is Lawler and Moore's table: best[c] is the most weight that takes up at most c buckets.
type knapsack struct {
	best  []float64
	costs []int
	takes [][]uint64 // of each task, in which buckets it is taken
}

func newTable(n int) *knapsack {
	return &knapsack{best: make([]float64, buckets+1), costs: make([]int, n), takes: make([][]uint64, n)}
}

// add considers one more task; tasks come by their deadline.
func (t *knapsack) add(k, cost, due int, weight float64) {
	t.costs[k] = cost
	takes := make([]uint64, buckets/64+1)
	// What fits by the deadline is also there later.
	top := min(due, buckets)
	for c := top; c >= cost; c-- {
		if with := t.best[c-cost] + weight; with > t.best[c] {
			t.best[c] = with
			takes[c/64] |= 1 << (c % 64)
		}
	}
	t.takes[k] = takes
}

// set is what the best for c buckets consists of.
func (t *knapsack) set(able []int, c int) []int {
	var set []int
	for k := len(able) - 1; k >= 0; k-- {
		if t.takes[k][c/64]>>(c%64)&1 == 1 {
			set = append(set, able[k])
			c -= t.costs[k]
		}
	}
	return set
}

// improve adds to the set what still fits, and exchanges one task for another that is worth more.
func (s *search) improve(able []int, best choice) choice {
	byWeight := slices.Clone(able)
	slices.SortStableFunc(byWeight, func(a, b int) int { return cmp.Compare(s.tasks[b].weight, s.tasks[a].weight) })
	in := make([]bool, len(s.tasks))
	for _, i := range best.order {
		in[i] = true
	}
	left := extras
	for _, i := range byWeight {
		if in[i] || left == 0 {
			continue
		}
		if set := append(slices.Clone(best.order), i); !s.cannot(set) {
			left--
			if c, ok := s.fits(set, false); ok {
				best, in[i] = c, true
			}
		}
	}
	for _, i := range byWeight {
		for at, j := range best.order {
			if in[i] || left == 0 || s.tasks[j].weight >= s.tasks[i].weight {
				continue
			}
			set := append(without(best.order, at), i)
			if s.cannot(set) {
				continue
			}
			left--
			if c, ok := s.fits(set, false); ok {
				best, in[i], in[j] = c, true, false
				break
			}
		}
	}
	return best
}

// polish takes, of the schedules of a set, the one by which the most weight is safe early and the pods stand still for the least time.
func (s *search) polish(c choice) choice {
	if len(c.order) == 0 {
		return c
	}
	best, least := c, math.Inf(1)
	for r := range kinds(c.order) {
		order := s.order(c.order, r)
		for _, n := range s.atOnces() {
			if !s.run(s.kept, order, n) {
				continue
			}
			score := 0.0
			for _, i := range order {
				score += s.tasks[i].weight * (2*s.ready[i] - s.began[i])
			}
			if score < least*(1-tiny) {
				best, least = s.choice(order, n), score
			}
		}
	}
	return best
}

// swiftest begins tasks that have no deadline in their order, as many as fit, so that they stand still for the least time.
func (s *search) swiftest(order []int) choice {
	best, least := choice{atOnce: 1}, math.Inf(1)
	for len(order) > 0 && math.IsInf(least, 1) {
		for _, n := range s.atOnces() {
			if !s.run(s.kept, order, n) {
				continue
			}
			score := 0.0
			for _, i := range order {
				score += 2*s.ready[i] - s.began[i]
			}
			if score < least*(1-tiny) {
				best, least = s.choice(order, n), score
			}
		}
		order = order[:len(order)-1]
	}
	return best
}
