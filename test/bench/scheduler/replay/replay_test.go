// SPDX-License-Identifier: Apache-2.0

package replay_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/test/bench/scheduler/replay"
)

// TestSmallDay plays a small trace in two runs: they end in the same way, and with the plugin the pods that are restored run sooner.
func TestSmallDay(t *testing.T) {
	cfg := replay.Defaults()
	cfg.Traces, cfg.Nodes, cfg.Apps = 1, 16, 10
	cfg.Warmup, cfg.Day = time.Hour, 3*time.Hour
	cfg.SchedulerConfig = filepath.Join("..", "..", "..", "..", "manifests", "scheduler", "config.yaml")
	first, err := replay.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	again, err := replay.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("the same trace ended in another way (-first +again):\n%s", diff)
	}
	for name, m := range first {
		if name != "replay_bytes_saved" && (m.Value <= 0 || m.RivalValue == nil || *m.RivalValue <= 0) {
			t.Errorf("%s is %v against %v", name, m.Value, m.RivalValue)
		}
	}
	if m := first["replay_restore_mean"]; m.Value >= *m.RivalValue {
		t.Errorf("a restored pod runs after %.1f s, without the plugin after %.1f s", m.Value, *m.RivalValue)
	}
	if m := first["replay_load_deviation"]; m.Value >= 1.1**m.RivalValue {
		t.Errorf("the load's deviation is %.3f, without the plugin %.3f", m.Value, *m.RivalValue)
	}
}

func TestPulls(t *testing.T) {
	base := replay.Layer{Name: "base", MiB: 10}
	one := replay.NewImage("one", base, replay.Layer{Name: "one", MiB: 2})
	two := replay.NewImage("two", base, replay.Layer{Name: "two", MiB: 3})
	m := replay.NewMachine(1000)
	type pulled struct {
		Ready time.Duration
		MiB   int64
	}
	var got []pulled
	for _, p := range []struct {
		at    time.Duration
		image *replay.Image
	}{{0, one}, {time.Second, two}, {2 * time.Second, one}, {time.Minute, two}} {
		ready, mib := m.Pull(p.at, p.image)
		got = append(got, pulled{ready, mib})
	}
	want := []pulled{
		{12 * time.Second, 12}, // all of it
		{15 * time.Second, 3},  // after the first, and without what they share
		{12 * time.Second, 0},  // on its way
		{time.Minute, 0},       // there
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pulls (-want +got):\n%s", diff)
	}
	if m.MiB() != 15 {
		t.Errorf("%d MiB are on the node, want 15: what is shared once", m.MiB())
	}
}

// TestCollection fills a disk that has room for 30 MiB of compressed layers, each of which takes 3.5 times as much.
func TestCollection(t *testing.T) {
	base := replay.Layer{Name: "base", MiB: 4}
	used := replay.NewImage("used", base, replay.Layer{Name: "used", MiB: 8})
	oldest := replay.NewImage("oldest", base, replay.Layer{Name: "oldest", MiB: 6})
	younger := replay.NewImage("younger", base, replay.Layer{Name: "younger", MiB: 5})
	last := replay.NewImage("last", base, replay.Layer{Name: "last", MiB: 3})
	m := replay.NewMachine(30 * 3.5)
	for i, image := range []*replay.Image{used, oldest, younger} {
		m.Pull(time.Duration(i)*time.Minute, image)
	}
	m.Use(used, 1)
	if diff := cmp.Diff([]string{"used", "oldest", "younger"}, m.Collect(time.Hour)); diff != "" {
		t.Errorf("there is room, and yet (-want +got):\n%s", diff)
	}
	m.Pull(time.Hour, last)
	if diff := cmp.Diff([]string{"used", "younger", "last"}, m.Collect(time.Hour+time.Minute)); diff != "" {
		t.Errorf("the disk is full: the image that was not used for the longest time goes, and it alone (-want +got):\n%s", diff)
	}
	if m.MiB() != 20 {
		t.Errorf("%d MiB are left, want 20: what the others share stays", m.MiB())
	}
}
