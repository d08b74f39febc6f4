// SPDX-License-Identifier: Apache-2.0

package pressure_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/pressure"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

const mib = 1 << 20

var (
	start       = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	small       = pressure.Pod{UID: "small", Namespace: "ns", Name: "small", Bytes: 64 * mib}
	large       = pressure.Pod{UID: "large", Namespace: "ns", Name: "large", Bytes: 1 << 30}
	both, alone = []pressure.Pod{small, large}, []pressure.Pod{small}
)

// reading is one, each a second after the one before unless it is later.
type reading struct {
	available int64
	pods      []pressure.Pod
	later     time.Duration
	// want is the pod that is announced afterwards.
	want types.UID
}

func TestNext(t *testing.T) {
	low, between, high := int64(150*mib), int64(220*mib), int64(300*mib)
	tests := map[string][]reading{
		"there is enough":                   {{high, both, 0, ""}, {high, both, 0, ""}, {between, both, 0, ""}},
		"once low":                          {{low, both, 0, ""}, {high, both, 0, ""}, {low, both, 0, ""}},
		"low: the largest":                  {{low, both, 0, ""}, {low, both, 0, "large"}, {low, both, 0, "large"}},
		"nobody may move":                   {{low, nil, 0, ""}, {low, nil, 0, ""}, {low, both, 0, ""}, {low, both, time.Minute, "large"}},
		"it recovers, the move has begun":   {{low, both, 0, ""}, {low, both, 0, "large"}, {high, both, 0, "large"}, {high, alone, 0, ""}},
		"it is gone; cool down, then again": {{low, both, 0, ""}, {low, both, 0, "large"}, {low, alone, 0, ""}, {low, alone, 10 * time.Second, ""}, {low, alone, 5 * time.Second, "small"}},
		"not quite enough goes on":          {{low, both, 0, ""}, {low, both, 0, "large"}, {between, alone, 0, ""}, {between, alone, 15 * time.Second, "small"}},
		"enough does not":                   {{low, both, 0, ""}, {low, both, 0, "large"}, {high, alone, 0, ""}, {between, alone, 15 * time.Second, ""}},
		"it did not go: the next, and not the same again": {
			{low, both, 0, ""}, {low, both, 0, "large"}, {low, both, 59 * time.Second, "large"}, {low, both, time.Second, ""},
			{low, both, 15 * time.Second, "small"}, {low, both, time.Minute, ""}, {low, both, time.Minute, ""}, {low, both, 10 * time.Minute, "large"},
		},
	}
	for name, readings := range tests {
		t.Run(name, func(t *testing.T) {
			var s pressure.State
			now := start
			for i, r := range readings {
				now = now.Add(max(r.later, time.Second))
				s = s.Next(r.available, 200*mib, r.pods, now)
				var got types.UID
				if s.Notice != nil {
					got = s.Notice.Pods[0]
				}
				if got != r.want {
					t.Fatalf("after reading %d %q is announced, want %q", i+1, got, r.want)
				}
			}
		})
	}
}

func TestNotice(t *testing.T) {
	s := pressure.State{}.Next(150*mib, 200*mib, both, start).Next(150*mib+1, 200*mib, both, start)
	n := s.Notice
	want := `the node has 150Mi of memory available, less than 200Mi; pod "ns/large", which uses 1Gi, moves before the kubelet kills it`
	if n.Cause != v1alpha1.NoticeMemoryPressure || !n.Since.Time.Equal(start) || n.Deadline.Sub(start) != time.Minute || n.Message != want {
		t.Errorf("notice %+v", n)
	}
}

// TestWatcher announces and takes back, and looks at pods only when it has to.
func TestWatcher(t *testing.T) {
	available := make(chan int64)
	notices := make(chan string, 8)
	asked := 0
	clock := clocktesting.NewFakeClock(start)
	w := &pressure.Watcher{
		Threshold: 200 * mib,
		Available: func() (int64, error) {
			if n := <-available; n > 0 {
				return n, nil
			}
			return 0, errors.New("unreadable")
		},
		Pods: func(context.Context) ([]pressure.Pod, error) {
			if asked++; asked > 1 {
				return alone, nil
			}
			return both, nil
		},
		Announce: func(n *v1alpha1.NodeNotice) {
			if n == nil {
				notices <- "over"
			} else {
				notices <- string(n.Pods[0])
			}
		},
		Clock: clock,
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Start(ctx) }()
	for _, n := range []int64{300 * mib, 0, 100 * mib, 0, 100 * mib, 300 * mib} {
		available <- n
		for !clock.HasWaiters() {
			time.Sleep(time.Millisecond)
		}
		clock.Step(time.Second)
	}
	cancel()
	available <- 300 * mib
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(notices)
	var got []string
	for n := range notices {
		got = append(got, n)
	}
	if diff := cmp.Diff([]string{"large", "over"}, got); diff != "" || asked != 2 {
		t.Errorf("asked for pods %d times; announced (-want +got):\n%s", asked, diff)
	}
}

func TestAvailable(t *testing.T) {
	whole := "MemTotal:       1000 kB\nMemFree:         1 kB\nMemAvailable:    2 kB\nBuffers:        10 kB\nCached:        300 kB\n" +
		"SwapCached:      5 kB\nInactive(file): 200 kB\nAnonPages:     400 kB\nHugePages_Total: 0\n"
	tests := map[string]struct {
		meminfo string
		want    int64
		err     string
	}{
		"whole":           {whole, (1000 - 400 - 300 - 10 - 5 + 200) << 10, ""},
		"without swap":    {strings.Replace(whole, "SwapCached:      5 kB\n", "", 1), (1000 - 400 - 300 - 10 + 200) << 10, ""},
		"without anon":    {strings.Replace(whole, "AnonPages", "Anon", 1), 0, "no AnonPages"},
		"not a number":    {strings.Replace(whole, "400 kB", "4OO kB", 1), 0, "parsing AnonPages"},
		"nothing at all":  {"", 0, "there is no"},
		"another content": {"<html>", 0, "there is no"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := pressure.Available([]byte(tc.meminfo))
			if got != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("Available = %d, %v; want %d, %q", got, err, tc.want, tc.err)
			}
		})
	}
}

// TestRead reads this machine's.
func TestRead(t *testing.T) {
	if got, err := pressure.Read(); err != nil || got <= 0 {
		t.Errorf("Read = %d, %v", got, err)
	}
}
