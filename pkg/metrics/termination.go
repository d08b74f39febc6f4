// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

var (
	removals = counter(SubsystemRemoval, "pods_total",
		"Pods that Cryopod itself ended, by the reason for it and whether they were saved (saved, cold), or that were not let go (refused).",
		"reason", "outcome")
	ends = counter(SubsystemTermination, "notices_total",
		"Announced ends of nodes that the leader has seen, by who announced them.", "cause")
)

// RemovalOutcome says in what state a pod was ended by Cryopod.
type RemovalOutcome string

// The outcomes of removals.
const (
	// RemovedSaved: its replacement goes on from its checkpoint.
	RemovedSaved RemovalOutcome = "saved"
	// RemovedCold: its replacement starts anew.
	RemovedCold RemovalOutcome = "cold"
	// RemovedNot: it was refused to go until its deadline.
	RemovedNot RemovalOutcome = "refused"
)

// CountRemoval counts a pod that Cryopod ended, or gave up to end.
func CountRemoval(reason v1alpha1.Reason, outcome RemovalOutcome) {
	removals.WithLabelValues(string(reason), string(outcome)).Inc()
}

// NoticeCause is who announces the end of a node.
type NoticeCause string

// noticeCauses are the causes, by how the keys of their taints begin.
var noticeCauses = []struct {
	begin string
	cause NoticeCause
}{
	{"aws-node-termination-handler/", "aws"},
	{"cloud.google.com/", "gke"},
	{"remediator.kubernetes.azure.com/", "aks"},
	{"karpenter.sh/", "karpenter"},
	{"ToBeDeletedByClusterAutoscaler", "cluster_autoscaler"},
	{"node.cloudprovider.kubernetes.io/", "cloud_provider"},
	{"node.kubernetes.io/unschedulable", "cordon"},
	{string(v1alpha1.NoticeShutdown), "shutdown"},
	{string(v1alpha1.NoticeMemoryPressure), "memory_pressure"},
}

// CauseOfNotice is the class of a notice's cause: the key of a taint, or what an agent sees.
func CauseOfNotice(cause string) NoticeCause {
	for _, known := range noticeCauses {
		if strings.HasPrefix(cause, known.begin) {
			return known.cause
		}
	}
	return "other"
}

// CountEnd counts an announced end of a node.
func CountEnd(cause NoticeCause) {
	ends.WithLabelValues(string(cause)).Inc()
}
