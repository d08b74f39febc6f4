// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
)

// predictions are a pod's prices on the nodes where it may go, as far as they tell of their images. What is on them is found for all nodes of the cluster in
// one go: to go along a dozen lists in memory takes less time than to look for a dozen layers on each of some hundred nodes.
type predictions struct {
	*roster
	prices []int32 // by place, and one more each: 0 for a node that was not among those
}

// of returns false for a node that it tells nothing of. p may be nil.
func (p *predictions) of(node *corev1.Node) (price int64, known bool) {
	if p == nil {
		return 0, false
	}
	s, found := p.seat(node)
	if !found || s.at == nowhere {
		return 0, false
	}
	return int64(p.prices[s.at]) - 1, p.prices[s.at] > 0
}

// predictions are what predict tells of each of some nodes alone.
func (p *Plugin) predictions(w *work, some, all []fwk.NodeInfo) *predictions {
	t, _ := tallies.Get().(*tally)
	defer tallies.Put(t)

	known, busy := p.data.images, p.underWay
	known.mu.Lock()
	defer known.mu.Unlock()
	busy.mu.RLock()
	defer busy.mu.RUnlock()

	bytes := t.sum(w, known, busy)
	made := &predictions{known.rosterLocked(all), make([]int32, len(known.profiles))}
	for _, info := range some {
		s, found := made.seats[info.Node()]
		if !found || s.at == nowhere {
			continue
		}
		l := busy.at(s.at)
		l.own = bytes - t.there[s.at]
		l.pull += l.own
		l.restore += w.restore
		l.pods++
		made.prices[s.at] = 1 + int32(p.predictor.price(l, known.profiles[s.at].measured)) //nolint:gosec // bounded there
	}
	return made
}

// tallies are used again and again: they are as large as the cluster.
var tallies = sync.Pool{New: func() any { return &tally{} }}

// tally sums up what is at each place already of what some work needs.
type tally struct {
	// there are the bytes at each place, of those that the work needs.
	there []int64
	// have are those of one image. It is all zeroes between images.
	have []int64
	// noted are the lists of the places that have something of the image.
	noted [][]place
}

// sum returns the bytes of all that the work needs, and finds out what of it is there, or will be for others. The locks of both are held.
func (t *tally) sum(w *work, known *catalog, busy *underWay) (all int64) {
	if places := len(known.profiles); len(t.there) < places {
		t.there, t.have = make([]int64, places), make([]int64, places)
	} else {
		clear(t.there)
	}
	for k := range w.images {
		all += t.add(&w.images[k], known, busy)
	}
	return all
}

// add adds an image, and returns its bytes.
func (t *tally) add(i *image, known *catalog, busy *underWay) (total int64) {
	t.noted = t.noted[:0]
	if i.layers == nil {
		total = i.bytes
		t.note(busy.whole[i.names[0]], total)
	} else {
		for _, l := range i.layers {
			total += l.bytes
			t.note(known.layers[l.id], l.bytes)
			t.note(busy.layers[l.id], l.bytes)
		}
	}
	if entry := known.images[i.id]; entry != nil && i.hasID {
		t.note(entry.at, total)
	}
	for _, name := range i.nameIDs {
		if entry := known.names[name]; entry != nil {
			t.note(entry.at, total)
		}
	}
	for _, places := range t.noted {
		for _, at := range places {
			// A layer may be noted twice, while it has come and is still expected.
			t.there[at] += min(t.have[at], total)
			t.have[at] = 0
		}
	}
	return total
}

// note notes that these places have, or will have, so many bytes of the image.
func (t *tally) note(places []place, bytes int64) {
	if len(places) == 0 {
		return
	}
	t.noted = append(t.noted, places)
	for _, at := range places {
		t.have[at] += bytes
	}
}
