// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// TestTurns has the pods of a node that ends saved in the order of what they are worth, and not in that in which they came.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 400*mib)
		c.r.MaxParallel = 1
		for k, value := range []int64{10, 300, 20, 1000} {
			c.add(fmt.Sprintf("v%d", value), 200*mib, func(s *v1alpha1.PodCheckpointSpec) {
				s.Value, s.Reason = value, v1alpha1.ReasonTermination
				within(time.Minute + time.Duration(k))(s)
				s.Deadline = new(metav1.NewTime(s.Deadline.Truncate(time.Second)))
			})
		}
		c.work(30 * time.Second)
		if diff := cmp.Diff([]string{"v1000", "v300", "v20", "v10"}, c.order); diff != "" {
			t.Errorf("dumped (-want +got):\n%s", diff)
		}
		c.expect("v10", v1alpha1.PhaseReady, "Durable", "saved")
	})
}

// TestNoTime refuses what can't be durable in time, and freezes none of it.
func TestNoTime(t *testing.T) {
	tests := map[string]struct {
		bytes  int64
		change func(*v1alpha1.PodCheckpointSpec)
		disk   source.Disk
		reason string
		says   string
	}{
		"too large for the time": {16 * gib, longFreeze, source.Disk{}, v1alpha1.ReasonNoTime, "there is no time to save it: it needs 1m26"},
		"it would stand still for too long": {2 * gib, func(s *v1alpha1.PodCheckpointSpec) { s.MaxFreezeSeconds = 5 }, source.Disk{},
			v1alpha1.ReasonMaxFreeze, "the pod would stand still for 11.1s, and may for 5s"},
		"more disk than the budget": {2 * gib, nil, source.Disk{Bytes: 4 * gib}, "NoDisk",
			"needs about 8192.0 MiB of disk, and all dumps of the node together may take 4096.0 MiB"},
		"more disk than is free": {2 * gib, nil, source.Disk{Space: space(100*gib, 15*gib), Percent: 50}, "NoDisk",
			"only 3072.0 MiB are free above the 12 %"},
		"more disk than is there": {8 * gib, nil, source.Disk{Space: space(36*gib, 36*gib), Percent: 100}, "NoDisk",
			"raise the agent's --disk-budget or the node's disk"},
		"what is on the disk counts": {2 * gib, nil, source.Disk{Space: space(36*gib, 6*gib), Bytes: 30 * gib}, "NoDisk", "are free above"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, 400*mib)
				c.r.Disk = tc.disk
				c.add("a", tc.bytes, tc.change)
				c.work(time.Second)
				c.expect("a", v1alpha1.PhaseFailed, tc.reason, tc.says)
				if c.begun("a") || c.fence.Get("id-a") != fence.Running {
					t.Error("it was frozen")
				}
			})
		})
	}
}

func longFreeze(s *v1alpha1.PodCheckpointSpec) {
	within(30 * time.Second)(s)
	s.MaxFreezeSeconds = 600
}

func space(total, free int64) func() (int64, int64, bool) {
	return func() (int64, int64, bool) { return total, free, true }
}

// TestGaveWay refuses what gives way to what is worth more, and ends what can't be durable any more while the node is slower than it seemed.
func TestGaveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 100*mib) // A quarter of what is taken for granted before it is measured.
		for k := range 6 {
			c.add(fmt.Sprintf("p%d", k), 300*mib, func(s *v1alpha1.PodCheckpointSpec) {
				s.Value = int64(1000 - 100*k)
				within(15 * time.Second)(s)
			})
		}
		c.work(16 * time.Second)
		c.expect("p0", v1alpha1.PhaseReady, "Durable", "saved")
		c.expect("p1", v1alpha1.PhaseReady, "Durable", "saved")
		c.expect("p5", v1alpha1.PhaseFailed, v1alpha1.ReasonNoTime, "are left")
		if c.begun("p5") {
			t.Error("p5 was frozen in vain")
		}
		for k := range 6 {
			if name := fmt.Sprintf("p%d", k); c.get(name).Status.Phase == v1alpha1.PhaseFailed && c.fence.Get("id-"+name) != fence.Running {
				t.Errorf("%s is %v", name, c.fence.Get("id-"+name))
			}
		}
		if len(c.dumping)+len(c.pushing) > 0 {
			t.Errorf("at the deadline %v are dumped and %v pushed", c.dumping, c.pushing)
		}
	})
}

// TestCancel ends an attempt as soon as it is plain that it would be torn, and not at its deadline.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 100*mib)
		c.add("a", 500*mib, within(8*time.Second))
		c.work(6 * time.Second)
		if c.fence.Get("id-a") != fence.Frozen {
			t.Errorf("a is %v", c.fence.Get("id-a"))
		}
		c.work(1900 * time.Millisecond)
		c.expect("a", v1alpha1.PhaseFailed, v1alpha1.ReasonNoTime, "there is no time to save it: it needs")
		if c.fence.Get("id-a") != fence.Running || len(c.pushing) > 0 {
			t.Errorf("a is %v, pushed are %v", c.fence.Get("id-a"), c.pushing)
		}
	})
}

// TestScheduleComesLast lets what is saved on a schedule wait for all others.
func TestScheduleComesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 400*mib)
		c.r.MaxParallel = 1
		schedule := func(s *v1alpha1.PodCheckpointSpec) { s.Reason, s.Fence = v1alpha1.ReasonSchedule, false }
		c.add("first", 100*mib, nil)
		c.work(10 * time.Millisecond) // It is under way.
		c.add("a1", 100*mib, schedule)
		c.add("a2", 100*mib, schedule)
		c.add("manual", 100*mib, func(s *v1alpha1.PodCheckpointSpec) { s.Reason = v1alpha1.ReasonManual })
		c.add("eviction", 100*mib, within(time.Minute))
		c.work(time.Minute)
		if diff := cmp.Diff([]string{"first", "eviction", "manual", "a1", "a2"}, c.order); diff != "" {
			t.Errorf("dumped (-want +got):\n%s", diff)
		}
	})
}

// TestWaitingForDisk saves pods one after the other that do not fit on the disk together.
func TestWaitingForDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 400*mib)
		c.r.MaxParallel, c.r.Disk = 4, source.Disk{Bytes: 5 * gib}
		for k := range 5 {
			c.add(fmt.Sprintf("p%d", k), gib, within(2*time.Minute))
		}
		c.work(25 * time.Second)
		for k := range 5 {
			c.expect(fmt.Sprintf("p%d", k), v1alpha1.PhaseReady, "Durable", "saved")
		}
		if c.mostDisk > 5*gib || c.mostDisk <= 4*gib {
			t.Errorf("dumps took %d bytes at once; want a push beside a dump, and no more than 5 GiB", c.mostDisk)
		}
	})
}

// TestSmallOnesTellLittle saves a large pod after many small ones, whose dumps are mostly latency: they say little about the node's rates.
func TestSmallOnesTellLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 200*mib)
		c.latency = 800 * time.Millisecond
		deadline := within(30 * time.Second)
		for k := range 8 {
			c.add(fmt.Sprintf("small-%d", k), 32*mib, deadline)
		}
		c.add("large", 1500*mib, deadline)
		c.work(29 * time.Second)
		for _, name := range append(c.order, "large") {
			c.expect(name, v1alpha1.PhaseReady, "Durable", "saved")
		}
	})
}

// TestLargeArchive saves a pod with little memory and much in its own file system: that takes long, and says nothing against the node.
func TestLargeArchive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 200*mib)
		c.archives["id-files"] = 2 * gib
		c.add("files", 10*mib, nil)
		c.work(25 * time.Second)
		c.add("memory", gib, within(20*time.Second))
		c.work(15 * time.Second)
		c.expect("memory", v1alpha1.PhaseReady, "Durable", "saved")
	})
}

// TestYieldInTime has an eviction of a pod that is about to be frozen for a schedule: the schedule gives way.
func TestYieldInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 100*mib)
		c.add("a", gib, func(s *v1alpha1.PodCheckpointSpec) { s.Reason, s.Fence = v1alpha1.ReasonSchedule, false })
		c.again("b", "a", within(time.Minute))
		c.work(40 * time.Second)
		c.expect("a", v1alpha1.PhaseFailed, "CheckpointFailed", "about to go")
		c.expect("b", v1alpha1.PhaseReady, "Durable", "saved")
	})
}

// TestGuess saves a pod whose memory can't be read, by what its owner asked for.
func TestGuess(t *testing.T) {
	asked := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("3Gi")}
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{
		{Name: "asked", Resources: corev1.ResourceRequirements{Requests: asked}}, {Name: "silent"},
	}}}
	for name, want := range map[string]int64{"asked": 3 * gib, "silent": 256 * mib} {
		if got := source.Requested(pod, name); got != want {
			t.Errorf("%s: %d bytes, want %d", name, got, want)
		}
	}
}

// TestFlood asks for a thousand checkpoints within a minute. Neither the pods at once nor the disk ever exceed their bounds, those that wait
// cost the API server no more than their own reads, and nothing of them is kept.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const budget = 3 * gib
		c := newCrowd(t, 4*gib)
		c.r.MaxParallel = 3
		free := func() (int64, int64, bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return 20 * gib, 6*gib - c.disk(), true
		}
		c.r.Disk = source.Disk{Space: free, Bytes: budget}
		mostWaiting := 0
		for k := range 1000 {
			bytes := int64(16+k*7919%500) * mib
			c.add(fmt.Sprintf("p%03d", k), bytes, func(s *v1alpha1.PodCheckpointSpec) {
				switch k % 4 {
				case 0:
					s.Reason, s.Fence = v1alpha1.ReasonSchedule, false
				case 1:
					s.Reason = v1alpha1.ReasonTermination
					fallthrough
				default:
					within(2 * time.Minute)(s)
				}
			})
			c.work(60 * time.Millisecond)
			mostWaiting = max(mostWaiting, c.r.Waiting())
		}
		c.work(5 * time.Minute)
		phases := map[v1alpha1.Phase]int{}
		for k := range 1000 {
			phases[c.get(fmt.Sprintf("p%03d", k)).Status.Phase]++
		}
		if c.most > 3 || c.most < 2 || c.mostDisk > budget {
			t.Errorf("%d pods were under way at once and took %d bytes; want at most 3 and %d", c.most, c.mostDisk, int64(budget))
		}
		if c.r.Waiting() != 0 || c.r.Causes() != 0 || c.r.Reserved() != 0 || mostWaiting > 1000 {
			t.Errorf("%d wait, %d failures and %d bytes are kept; at most %d waited", c.r.Waiting(), c.r.Causes(), c.r.Reserved(), mostWaiting)
		}
		// Most of them are of pods that stand still already, every two seconds.
		if c.gets > 30*1000 {
			t.Errorf("%d reads past the cache for 1000 checkpoints", c.gets)
		}
		t.Logf("%v; at most %d waited; %d pods and %d MiB of disk at once; %d reads", phases, mostWaiting, c.most, c.mostDisk/mib, c.gets)
		if phases[v1alpha1.PhaseFailed]+phases[v1alpha1.PhaseReady]+phases[v1alpha1.PhaseReleased] != 1000 || phases[v1alpha1.PhaseFailed] == 1000 {
			t.Errorf("phases %v", phases)
		}
	})
}
