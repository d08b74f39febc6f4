// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// slowStarts has each pod's start on a node hold up the next one's for 30 s, where the pull of appStored takes 70 s: behind two pods the node that has it
// is the sooner one, behind three it is not.
const slowStarts = `{"model":{"startTime":"30s","trafficWeight":0,"fullScale":"1m"}}`

func twoNodes(t *testing.T, clk clock.WithTicker) framework.Framework {
	t.Helper()
	server := startAPIServer(t, newProfile("cached", true, appStored()), newProfile("empty", true), newCheckpoint())
	return newFrameworkAt(t, clk, server, slowStarts, time.Minute, newNode("cached"), newNode("empty"))
}

// soonest tells on which of the two nodes the next pod is predicted to run first.
func soonest(t *testing.T, f framework.Framework) string {
	t.Helper()
	_, scores := place(t, f, restoringPod())
	switch {
	case scores["cached"] == 100 && scores["empty"] < 100:
		return "cached"
	case scores["empty"] == 100 && scores["cached"] < 100:
		return "empty"
	default:
		return fmt.Sprint(scores)
	}
}

// another is an opted-in pod of its own.
func another(i int) *corev1.Pod {
	pod := enabledPod()
	pod.Name = fmt.Sprintf("another-%d", i)
	pod.UID = types.UID(pod.Name)
	return pod
}

func TestReservedPodsCount(t *testing.T) {
	f := twoNodes(t, clock.RealClock{})
	state := framework.NewCycleState()
	var got []string
	for i := range 4 {
		got = append(got, soonest(t, f))
		if status := f.RunReservePluginsReserve(t.Context(), state, another(i), "cached"); !status.IsSuccess() {
			t.Fatal(status)
		}
	}
	f.RunReservePluginsUnreserve(t.Context(), state, another(0), "cached")
	got = append(got, soonest(t, f))
	for range 2 { // the framework may call it more than once
		f.RunReservePluginsUnreserve(t.Context(), state, another(1), "cached")
	}
	got = append(got, soonest(t, f))
	if diff := cmp.Diff([]string{"cached", "cached", "cached", "empty", "empty", "cached"}, got); diff != "" {
		t.Errorf("soonest with 0 to 3 pods on their way to cached, with 3 again, and with 2 (-want +got):\n%s", diff)
	}
}

// TestPodsOfOthersCount has another scheduler bind pods that are not opted in.
func TestPodsOfOthersCount(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	f := twoNodes(t, clk)
	f.SharedInformerFactory().Start(t.Context().Done())
	f.SharedInformerFactory().WaitForCacheSync(t.Context().Done())
	pods := f.ClientSet().CoreV1().Pods("default")
	await := func(want string) {
		t.Helper()
		err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
			return soonest(t, f) == want, nil
		})
		if err != nil {
			t.Fatalf("soonest is %q, want %q", soonest(t, f), want)
		}
	}
	others := make([]*corev1.Pod, 0, 6)
	make3 := func() {
		for range 3 {
			pod := another(len(others))
			pod.Annotations, pod.Spec.NodeName, pod.Status.Phase = nil, "cached", corev1.PodPending
			if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			others = append(others, pod)
		}
	}
	await("cached")
	make3()
	await("empty")
	others[0].Status.Phase = corev1.PodRunning
	if _, err := pods.UpdateStatus(t.Context(), others[0], metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await("cached")
	make3()
	await("empty")
	for _, pod := range others[1:4] {
		if err := pods.Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	await("cached")
	make3()
	await("empty")
	// A pod whose image can't be pulled starts for ever; it does not count for ever.
	clk.Step(11 * time.Minute)
	await("cached")
}

// TestPredictionsAreCompared counts a pod that came to run once, with what was predicted and what it took.
func TestPredictionsAreCompared(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	f := twoNodes(t, clk)
	f.SharedInformerFactory().Start(t.Context().Done())
	f.SharedInformerFactory().WaitForCacheSync(t.Context().Done())
	before := startSeconds(t)
	pod := another(0)
	if status := f.RunReservePluginsReserve(t.Context(), framework.NewCycleState(), pod, "cached"); !status.IsSuccess() {
		t.Fatal(status)
	}
	clk.Step(40 * time.Second)
	pod.Spec.NodeName, pod.Status.Phase = "cached", corev1.PodRunning
	if _, err := f.ClientSet().CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := wait.PollUntilContextTimeout(t.Context(), 10*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
		now := startSeconds(t)
		return now["predicted"]-before["predicted"] == 30 && now["actual"]-before["actual"] == 40, nil
	})
	if err != nil {
		t.Errorf("seconds of fresh starts: %v, before %v; want 30 predicted and 40 actual ones more", startSeconds(t), before)
	}
}

// startSeconds are the sums of the metrics' seconds of fresh starts.
func startSeconds(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if h := m.GetHistogram(); h != nil && len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == "fresh" {
				switch family.GetName() {
				case "cryopod_scheduler_predicted_start_seconds":
					sums["predicted"] = h.GetSampleSum()
				case "cryopod_scheduler_actual_start_seconds":
					sums["actual"] = h.GetSampleSum()
				}
			}
		}
	}
	return sums
}
