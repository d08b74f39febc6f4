// SPDX-License-Identifier: Apache-2.0

// Package fault makes things go wrong on a local cluster, each really and so that it is seen to: the end-to-end tests' attack on
// Cryopod draws from it.
package fault

import (
	"context"
	"math/rand/v2"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// Undo ends a fault. It may be called more than once, and also when what the fault struck has died since.
type Undo func(context.Context) error

// Fault is one thing that goes wrong.
type Fault struct {
	// Name is one of a closed set: see All.
	Name string
	// Do makes it happen, and returns once it is seen to have happened. What it strikes among several it draws from r alone. undo, nil for
	// nothing to end, ends it, and has to be called also after ctx is done; detail is what was done exactly, for the history. When Do fails
	// there is nothing to undo.
	Do func(ctx context.Context, t *Target, r *rand.Rand) (undo Undo, detail string, err error)
}

// Target is what faults strike.
type Target struct {
	Bed *bed.Bed
	// Node is where the pod runs, or ran, that is being moved away: the source.
	Node string
	// Namespace is that of the pod.
	Namespace string
}

func (t *Target) source() (*cluster.Node, error) { return t.Bed.Cluster.Node(t.Node) }

// All are the faults, in a fixed order.
//
//	kill-agent           kill -9 of the source's agent
//	kill-webhook         kill -9 of one replica of the webhook
//	kill-webhooks        … of all replicas
//	kill-scheduler       … of all replicas of Cryopod's scheduler
//	kill-containerd      kill -9 of the source's containerd; containers go on
//	kill-kubelet         kill -9 of the source's kubelet
//	restart-kubelet      SIGTERM, as an upgrade does
//	registry-down        the registry's process is ended
//	registry-slow        bandwidth of each connection and latency
//	registry-500         for all requests or for some
//	registry-lost-blob   the first blob of a checkpoint that is read is not there, then and later
//	disk-full            the source's archives break off in the middle
//	api-cut-node         packets between the source, its pods included, and the API server are dropped
//	api-cut-agents       … between all agents and the API server
//	api-frozen           the API server's process stands still, for everybody
//	node-cut             the source is off the network
//	node-frozen          all processes of the source stand still
//	clock-agent          the wall clock of the source's agent jumps, by up to two hours in either direction
//	clock-webhook        … of one replica of the webhook
//	clock-node           … of agent, webhook, scheduler, kubelet and containerd on the source
//	probe-fails          the liveness probe of the pod on the source, if it has one by HTTP, fails; also while it is frozen
//	certificate-expired  the webhook's certificate, or the CA that is trusted, or both, are replaced by expired ones; heals by itself
//
// Those with a length last until undo; kills and restarts end by themselves.
func All() []Fault {
	return []Fault{
		{"kill-agent", killAgent},
		{"kill-webhook", killOne("webhook")},
		{"kill-webhooks", killAll("webhook")},
		{"kill-scheduler", killAll("scheduler")},
		{"kill-containerd", killProgram("containerd")},
		{"kill-kubelet", killProgram("kubelet")},
		{"restart-kubelet", restartKubelet},
		{"registry-down", stopRegistry},
		{"registry-slow", slowRegistry},
		{"registry-500", failRegistry},
		{"registry-lost-blob", loseBlob},
		{"disk-full", fillDisk},
		{"api-cut-node", cutAPIFromNode},
		{"api-cut-agents", cutAPIFromAgents},
		{"api-frozen", stopAPIServer},
		{"node-cut", cutNode},
		{"node-frozen", freezeNode},
		{"clock-agent", skewAgent},
		{"clock-webhook", skewWebhook},
		{"clock-node", skewNode},
		{"probe-fails", failProbe},
		{"certificate-expired", expireCertificate},
	}
}

// ByName finds a fault.
func ByName(name string) (Fault, bool) {
	for _, f := range All() {
		if f.Name == name {
			return f, true
		}
	}
	return Fault{}, false
}
