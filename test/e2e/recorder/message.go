// SPDX-License-Identifier: Apache-2.0

// Package recorder is the witness of the end-to-end tests. Workloads tell it of each step before they count the step as done, so its
// log, and not what a pod says of itself, decides whether a move lost or repeated anything.
//
// The protocol is one JSON object a line (Message) over TCP, answered by the line "ok NONCE" once the step is in the log. A
// workload that did not see the answer sends the same line again, over a new connection if need be.
package recorder

import (
	"net/netip"
	"time"
)

// Message is what a workload sends for each step.
type Message struct {
	// Workload names the process whose steps are numbered together; it outlives a move.
	Workload string `json:"workload"`
	// Step counts from 1.
	Step int64 `json:"step"`
	// Nonce is drawn from the kernel when the step begins: a retry carries the same one, a step done a second time another.
	Nonce string `json:"nonce"`
	// Pod is the pod's name as the process sees it when it connects.
	Pod string `json:"pod,omitempty"`
	// Bytes is the size of the memory that the workload holds and checks.
	Bytes int64 `json:"bytes,omitempty"`
	// Done is the highest step that the workload counts as done.
	Done int64 `json:"done,omitempty"`
	// Verified is how many bytes of its memory the workload has checked since it started, each byte counted each time.
	Verified int64 `json:"verified,omitempty"`
	// Fault is what the workload found wrong: memory or files that are not what it wrote. Such a message is no step.
	Fault string `json:"fault,omitempty"`
}

// Entry is a message as it stands in the log.
type Entry struct {
	Message
	// Sequence numbers all entries of a log in the order of their arrival, from 1.
	Sequence int64 `json:"sequence"`
	// Peer is the address that the message came from: that of the pod.
	Peer string `json:"peer"`
	// Node is the node whose range Peer belongs to, empty when unknown.
	Node string `json:"node,omitempty"`
	// Time is when the message arrived.
	Time time.Time `json:"time"`
}

// Place says which node a range of addresses belongs to.
type Place struct {
	Range netip.Prefix
	Node  string
}

func nodeOf(places []Place, peer netip.Addr) string {
	for _, p := range places {
		if p.Range.Contains(peer) {
			return p.Node
		}
	}
	return ""
}
