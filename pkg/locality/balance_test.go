// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework"

	"github.com/cryopod/cryopod/pkg/locality"
)

// requesting is the pod, with requests; what is empty is not requested.
func requesting(pod *corev1.Pod, cpu, memory string) *corev1.Pod {
	requests := corev1.ResourceList{}
	for name, value := range map[corev1.ResourceName]string{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory} {
		if value != "" {
			requests[name] = resource.MustParse(value)
		}
	}
	pod.Spec.Containers[0].Resources.Requests = requests
	return pod
}

// loaded is a node, with a pod on it that requests so much.
func loaded(cpu, memory string, used *corev1.Pod) fwk.NodeInfo {
	node := sized(newNode("node"), cpu)
	node.Status.Allocatable[corev1.ResourceMemory] = resource.MustParse(memory)
	info := framework.NewNodeInfo(used)
	info.SetNode(node)
	return info
}

func TestBalance(t *testing.T) {
	pod := func(cpu, memory string) *corev1.Pod { return requesting(newPod("pod", appImage, nil), cpu, memory) }
	var (
		fifth       = loaded("10", "10Gi", pod("2", "2Gi"))
		threeFifths = loaded("10", "10Gi", pod("6", "6Gi"))
		large       = loaded("100", "100Gi", pod("40", "40Gi"))
		byMemory    = loaded("10", "10Gi", pod("0", "8Gi")) // two fifths, as the mean of the others
		nothing     = loaded("0", "0", pod("1", "1Gi"))
	)
	const cost = 1000 * time.Second
	for name, tc := range map[string]struct {
		cost  time.Duration
		pod   *corev1.Pod
		nodes []fwk.NodeInfo
		want  []time.Duration
	}{
		// It adds a tenth to -0.2 and to 0.2: 0.01 - 0.04 and 0.09 - 0.04, times 1000 s.
		"a pod":                  {cost, pod("1", "1Gi"), []fwk.NodeInfo{fifth, threeFifths}, []time.Duration{-30 * time.Second, 50 * time.Second}},
		"one that requests less": {cost, pod("100m", "107374182"), []fwk.NodeInfo{fifth, threeFifths}, []time.Duration{-3900 * time.Millisecond, 4100 * time.Millisecond}},
		"a large node":           {cost, pod("1", "1Gi"), []fwk.NodeInfo{fifth, threeFifths, large}, []time.Duration{-30 * time.Second, 50 * time.Second, 100 * time.Millisecond}},
		"CPU alone is requested": {cost, pod("2", "0"), []fwk.NodeInfo{fifth, threeFifths}, []time.Duration{-30 * time.Second, 50 * time.Second}},
		"memory alone was":       {cost, pod("1", "1Gi"), []fwk.NodeInfo{fifth, threeFifths, byMemory}, []time.Duration{-30 * time.Second, 50 * time.Second, 10 * time.Second}},
		"nothing is requested":   {cost, pod("", ""), []fwk.NodeInfo{loaded("2", "4000Mi", pod("0", "0"))}, []time.Duration{2500 * time.Millisecond}},
		"nor was there": {
			cost, pod("200m", "400Mi"), []fwk.NodeInfo{loaded("2", "4000Mi", pod("", "")), loaded("2", "4000Mi", pod("0", "0"))},
			[]time.Duration{15 * time.Second, 5 * time.Second},
		},
		"a node tells of nothing": {cost, pod("1", "1Gi"), []fwk.NodeInfo{nothing}, []time.Duration{0}},
		"it is left to others":    {0, pod("1", "1Gi"), []fwk.NodeInfo{fifth, threeFifths}, []time.Duration{0, 0}},
		"no node":                 {cost, pod("1", "1Gi"), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, locality.BalancePrices(tc.cost, tc.pod, tc.nodes...)); diff != "" {
				t.Errorf("prices (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLoadOrLayers has a small node with the image and a huge one without: a pod that requests little goes to its layers, one that would fill the small node
// does not, unless the load is left to others.
func TestLoadOrLayers(t *testing.T) {
	server := startAPIServer(t, newProfile("cached", true, appStored()), newProfile("huge", true))
	huge := sized(newNode("huge"), "400")
	huge.Status.Allocatable[corev1.ResourceMemory] = resource.MustParse("800Gi")
	for name, tc := range map[string]struct {
		cpu, memory, args, want string
	}{
		"a small pod":                       {"100m", "200Mi", "", "cached"},
		"a large pod":                       {"3500m", "7Gi", "", "huge"},
		"a large pod, left to others":       {"3500m", "7Gi", `{"model":{"balanceTime":"0s"}}`, "cached"},
		"a large pod, its bytes are dearer": {"3500m", "7Gi", `{"model":{"trafficWeight":20}}`, "cached"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFrameworkWith(t, server, tc.args, time.Minute, newNode("cached"), huge)
			_, scores := place(t, f, requesting(enabledPod(), tc.cpu, tc.memory))
			if scores[tc.want] != 100 || len(scores) != 2 || scores["cached"] == scores["huge"] {
				t.Errorf("scores %v, want 100 for %s alone", scores, tc.want)
			}
		})
	}
}
