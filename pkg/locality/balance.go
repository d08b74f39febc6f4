// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	fwk "k8s.io/kube-scheduler/framework"
	schedutil "k8s.io/kubernetes/pkg/scheduler/util"
)

// balance is what prices how even a pod leaves the nodes' load. A node's load is the share of its CPU and memory that is requested, the mean of both. How
// uneven loads are is the sum of the squares of their distances from their mean: so a pod counts by how much it requests of a node, which a plugin of the
// scheduler's own can't tell CheckpointLocality, and pods that request little go to where their layers are.
type balance struct {
	milliseconds float64 // what one more of that sum costs
	cpu, memory  float64 // what the pod requests, as NodeResourcesFit counts it
	mean         float64 // load of the nodes where it may go
}

func newBalance(cost time.Duration, pod *corev1.Pod, nodes []fwk.NodeInfo) balance {
	if cost == 0 || len(nodes) == 0 {
		return balance{}
	}
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{NonMissingContainerRequests: missing})
	b := balance{
		milliseconds: float64(cost.Milliseconds()), cpu: float64(requests.Cpu().MilliValue()), memory: float64(requests.Memory().Value()),
	}
	for _, n := range nodes {
		b.mean += loadOf(n) / float64(len(nodes))
	}
	return b
}

// missing is what the scheduler takes a container to need that requests nothing.
var missing = corev1.ResourceList{
	corev1.ResourceCPU:    *resource.NewMilliQuantity(schedutil.DefaultMilliCPURequest, resource.DecimalSI),
	corev1.ResourceMemory: *resource.NewQuantity(schedutil.DefaultMemoryRequest, resource.DecimalSI),
}

// price is what the pod costs on the node beside its predicted time, in milliseconds: less than nothing where it makes loads more even.
func (b *balance) price(n fwk.NodeInfo) int64 {
	if b.milliseconds == 0 {
		return 0
	}
	adds := share(n, b.cpu, b.memory)
	return int64(math.Round(b.milliseconds * adds * (2*(loadOf(n)-b.mean) + adds)))
}

// loadOf is the node's load.
func loadOf(n fwk.NodeInfo) float64 {
	requested := n.GetNonZeroRequested()
	return share(n, float64(requested.GetMilliCPU()), float64(requested.GetMemory()))
}

// share is what such a request is of all that the node has, the mean of both resources. It is 0 of a node that tells of neither.
func share(n fwk.NodeInfo, cpu, memory float64) (of float64) {
	room := n.GetAllocatable()
	if all := room.GetMilliCPU(); all > 0 {
		of += cpu / float64(all) / 2
	}
	if all := room.GetMemory(); all > 0 {
		of += memory / float64(all) / 2
	}
	return of
}
