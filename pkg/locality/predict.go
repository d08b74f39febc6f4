// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"sync"

	fwk "k8s.io/kube-scheduler/framework"
)

// predictions are in how many milliseconds the pod of that work would run on each of the nodes, by their names. They are what predict tells of each, but
// for all nodes at once.
func (p *Plugin) predictions(w *work, nodes []fwk.NodeInfo) map[string]int64 {
	s, _ := tallies.Get().(*tally)
	defer tallies.Put(s)
	s.sum(w, nodes, p.data.images, p.underWay)

	all := make(map[string]int64, len(nodes))
	for i, info := range nodes {
		node, known := info.Node(), &s.profiles[i]
		switch {
		case !known.tells:
			all[node.Name] = p.predict(w, info)
		case w.target != nil && (leaving(node) != nil || w.target.refuses(known.node) != nil):
			all[node.Name] = never
		default:
			all[node.Name] = p.predictor.milliseconds(s.loads[i], known.measured)
		}
	}
	return all
}

// tallies are used again and again: they are as large as the cluster.
var tallies = sync.Pool{New: func() any { return &tally{} }}

// tally sums up what has to be done on each of some nodes.
type tally struct {
	// index is, by place, the index of a node among those asked for, from 1 on; 0 for others.
	index []int32
	// profiles are those of the nodes asked for; none where what a node reports itself has to be looked at.
	profiles []profile
	// loads are what each has to do, have what of an image is there already.
	loads []load
	have  []int64
}

// sum is the load of each of the nodes with the work added (see underWay.load).
func (s *tally) sum(w *work, nodes []fwk.NodeInfo, known *catalog, busy *underWay) {
	known.mu.RLock()
	defer known.mu.RUnlock()
	busy.mu.RLock()
	defer busy.mu.RUnlock()

	s.reset(len(known.profiles), len(nodes))
	for i, info := range nodes {
		p := known.places[info.Node().Name]
		if p == nil || !known.profiles[p.place].tells {
			continue
		}
		s.profiles[i], s.index[p.place] = known.profiles[p.place], int32(i+1) //nolint:gosec // as many as nodes
		s.loads[i] = busy.at(p.place)
		s.loads[i].restore += w.restore
		s.loads[i].pods++
	}
	for k := range w.images {
		s.add(&w.images[k], known, busy)
	}
}

// add adds what has to be pulled of an image.
func (s *tally) add(i *image, known *catalog, busy *underWay) {
	clear(s.have)
	total := i.bytes
	if i.layers == nil {
		s.note(busy.whole[i.names[0]], total)
	} else {
		total = 0
		for _, l := range i.layers {
			total += l.bytes
			s.note(known.layers[l.id], l.bytes)
			s.note(busy.layers[l.id], l.bytes)
		}
	}
	if entry := known.images[i.id]; entry != nil && i.hasID {
		s.note(entry.at, total)
	}
	for _, name := range i.nameIDs {
		if entry := known.names[name]; entry != nil {
			s.note(entry.at, total)
		}
	}
	for k, have := range s.have {
		// A layer may be noted twice, while it has come and is still expected.
		s.loads[k].pull += max(0, total-have)
	}
}

// note notes that these places have, or will have, so many bytes of the image.
func (s *tally) note(at []place, bytes int64) {
	for _, p := range at {
		if i := s.index[p]; i > 0 {
			s.have[i-1] += bytes
		}
	}
}

// reset makes room for so many places, and for so many nodes that are asked for.
func (s *tally) reset(places, nodes int) {
	s.index, s.profiles = zeroed(s.index, places), zeroed(s.profiles, nodes)
	s.loads, s.have = zeroed(s.loads, nodes), zeroed(s.have, nodes)
}

// zeroed is a list of zeroes of that length, in the same memory where that suffices.
func zeroed[T any](list []T, length int) []T {
	if cap(list) < length {
		return make([]T, length)
	}
	list = list[:length]
	clear(list)
	return list
}
