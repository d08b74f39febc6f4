// SPDX-License-Identifier: Apache-2.0

package locality

import "sync"

// predictions are a pod's prices on all nodes that tell of their images.
//
// They are made for all of them in one go, though the scheduler scores a part of a large cluster only: to go along lists in memory takes less time for
// thousands of nodes than to look hundreds of them up by their names, and Score has to do that once anyway.
type predictions struct {
	at     map[nodeHash]place
	prices []int32 // by place
}

// of tells nothing of a node that doesn't tell of its images. p may be nil.
func (p *predictions) of(node string) (price int64, known bool) {
	if p == nil {
		return 0, false
	}
	at, known := p.at[hashOf(node)]
	if !known {
		return 0, false
	}
	return int64(p.prices[at]), true
}

// predictions are what predict tells of each node alone.
func (p *Plugin) predictions(w *work) *predictions {
	t, _ := tallies.Get().(*tally)
	defer tallies.Put(t)

	known, busy := p.data.images, p.underWay
	known.mu.Lock()
	defer known.mu.Unlock()
	busy.mu.RLock()
	defer busy.mu.RUnlock()

	all := t.sum(w, known, busy)
	made := &predictions{known.directory(), make([]int32, len(known.profiles))}
	for at := range known.profiles {
		of := &known.profiles[at]
		if !of.tells {
			continue
		}
		l := busy.at(place(at)) //nolint:gosec // as many as nodes
		l.own = all - t.there[at]
		l.pull += l.own
		l.restore += w.restore
		l.pods++
		made.prices[at] = int32(p.predictor.price(l, of.measured)) //nolint:gosec // bounded there
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
	t.there, t.have = zeroed(t.there, len(known.profiles)), zeroed(t.have, len(known.profiles))
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

// zeroed is a list of zeroes of that length, in the same memory where that suffices.
func zeroed[T any](list []T, length int) []T {
	if cap(list) < length {
		return make([]T, length)
	}
	list = list[:length]
	clear(list)
	return list
}
