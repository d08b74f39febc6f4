// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"time"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
)

const (
	// hitch is the longest pause of a pull that counts as a part of its rate. After a longer one something else was in the way.
	hitch = 2 * time.Second
	// tooLittle says more about latency than about bandwidth, in bytes.
	tooLittle = 4 << 20
	// plenty is how many bytes are a measurement of their own, while further ones still come.
	plenty = 256 << 20
)

// PullMemory is after how many bytes a measurement of pulls counts for half: a line that has become another one is known after some images.
const PullMemory = 256 << 20

// Arrival is a layer that was being pulled and is whole.
type Arrival struct {
	Bytes int64
	At    time.Time
}

// PullMeter measures how many bytes a second a node pulls, from repeated looks at how far its pulls are. All pulls of a moment are one: they
// share what there is. The zero value has measured nothing.
type PullMeter struct {
	looked time.Time
	seen   map[string]containerd.Ingest
	// grew is when bytes had last come.
	grew  time.Time
	bytes int64
	took  time.Duration
}

// Seen are the digests of the layers that were being pulled at the last look.
func (m *PullMeter) Seen() []string {
	var digests []string
	for d := range m.seen {
		digests = append(digests, d)
	}
	return digests
}

// Look takes what is being pulled now and, by digest, what of Seen is whole. Once it knows enough it returns how many bytes came in which time,
// and begins anew; before, it returns zeros. The time in which nothing came is not counted, short pauses aside.
func (m *PullMeter) Look(now time.Time, pulls []containerd.Ingest, whole map[string]Arrival) (bytes int64, took time.Duration) {
	m.count(now, pulls, whole)
	m.seen = make(map[string]containerd.Ingest, len(pulls))
	for _, p := range pulls {
		m.seen[p.Digest] = p
	}
	m.looked = now
	if len(pulls) > 0 && m.bytes < plenty {
		return 0, 0
	}
	if m.bytes >= tooLittle {
		bytes, took = m.bytes, m.took
	}
	m.bytes, m.took = 0, 0
	return bytes, took
}

// count adds what came since the last look.
func (m *PullMeter) count(now time.Time, pulls []containerd.Ingest, whole map[string]Arrival) {
	var from, to time.Time
	var came int64
	add := func(bytes int64, begun, ended time.Time) {
		if bytes <= 0 || !ended.After(begun) {
			return
		}
		came += bytes
		if from.IsZero() || begun.Before(from) {
			from = begun
		}
		if ended.After(to) {
			to = ended
		}
	}
	for _, p := range pulls {
		before, known := m.seen[p.Digest]
		switch {
		case known:
			add(p.Bytes-before.Bytes, m.begun(), now)
		case !m.looked.IsZero() && !p.Since.Before(m.looked):
			add(p.Bytes, p.Since, now)
		default: // what an earlier pull left: how much is new, the next look tells
		}
	}
	for digest, before := range m.seen {
		if w, ok := whole[digest]; ok {
			add(w.Bytes-before.Bytes, m.begun(), w.At)
		}
	}
	if came > 0 {
		m.bytes += came
		m.took += to.Sub(from)
		m.grew = to
	}
}

// begun is since when bytes that came since the last look may have been coming.
func (m *PullMeter) begun() time.Time {
	if pause := m.looked.Sub(m.grew); pause > 0 && pause <= hitch {
		return m.grew
	}
	return m.looked
}
