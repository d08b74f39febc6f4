// SPDX-License-Identifier: Apache-2.0

package metrics

var responses = counter(SubsystemEviction, "responses_total",
	"Evictions of EvictionRequests that Cryopod was the responder of, by how its turn ended.", "outcome")

// ResponseOutcome says how Cryopod's turn in an EvictionRequest ended.
type ResponseOutcome string

// The outcomes of a turn.
const (
	// ResponseEvicted: the pod was evicted, saved or not.
	ResponseEvicted ResponseOutcome = "evicted"
	// ResponseGone: the pod had gone otherwise.
	ResponseGone ResponseOutcome = "gone"
	// ResponseHandedOver: the next responder goes on.
	ResponseHandedOver ResponseOutcome = "handed_over"
)

// CountResponse counts how a turn ended.
func CountResponse(outcome ResponseOutcome) {
	responses.WithLabelValues(string(outcome)).Inc()
}
