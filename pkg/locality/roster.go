// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	fwk "k8s.io/kube-scheduler/framework"
)

// roster finds what is known of the nodes by their objects, for one scheduling cycle after the other. Names are all over the memory: to read and hash those of
// the nodes that a pod is tried on was more than half of what Filter and Score took. Who has an object that the roster doesn't know asks by name.
// It keeps the objects, so that no other is taken for one of them, and never changes but for missed.
type roster struct {
	seats map[*corev1.Node]seat
	// kinds are nodes of which no two have the same abilities; the first one is nil, for all those without a profile.
	kinds []*node
	// missed counts the objects that were not known: newer ones of nodes whose status was updated, and new nodes.
	missed atomic.Int64
}

// seat is what the roster has of one node.
type seat struct {
	// at is nowhere for a node that doesn't tell of all its images.
	at   place
	kind int32
}

const nowhere place = -1

// missedPart is which part of a roster's nodes may be asked for in vain until another one is made.
const missedPart = 8

// newRoster is called under the lock.
func (c *catalog) newRoster(nodes []fwk.NodeInfo) *roster {
	r := &roster{seats: make(map[*corev1.Node]seat, len(nodes)), kinds: []*node{nil}}
	kinds := map[abilities]int32{}
	for _, info := range nodes {
		n := info.Node()
		if n == nil {
			continue
		}
		s := seat{at: nowhere}
		if p := c.places[n.Name]; p != nil && c.profiles[p.place].node != nil {
			of := c.profiles[p.place].node
			if of.tells() {
				s.at = p.place
			}
			kind, known := kinds[of.abilities]
			if !known {
				kind = int32(len(r.kinds)) //nolint:gosec // at most as many as nodes
				kinds[of.abilities] = kind
				r.kinds = append(r.kinds, of)
			}
			s.kind = kind
		}
		r.seats[n] = s
	}
	return r
}

// seat returns false for an object that the roster does not know.
func (r *roster) seat(n *corev1.Node) (seat, bool) {
	s, known := r.seats[n]
	if !known {
		r.missed.Add(1)
	}
	return s, known
}

func (r *roster) outdated() bool { return r.missed.Load()*missedPart > int64(len(r.seats)) }
