// SPDX-License-Identifier: Apache-2.0

package fence_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/agent/fence/fake"
)

func entry(name string, uid types.UID, pod types.UID) fence.Entry {
	return fence.Entry{
		Checkpoint: types.NamespacedName{Namespace: "ns", Name: name}, CheckpointUID: uid, Pod: "web", PodUID: pod,
		Containers: []fence.Container{{Name: "app", ID: "c-" + name}},
		Since:      time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func open(t *testing.T, path string) *fence.Ledger {
	t.Helper()
	l, err := fence.OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLedgerSurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "frozen.json")
	l := open(t, path)
	first, second := entry("a", "1", "pod-a"), entry("b", "2", "pod-b")
	for _, e := range []fence.Entry{second, first} {
		if err := l.Put(e); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, path)
	if diff := cmp.Diff([]fence.Entry{first, second}, again.All()); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	if err := again.Drop(first.Checkpoint); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]fence.Entry{second}, open(t, path).All()); diff != "" {
		t.Errorf("after Drop (-want +got):\n%s", diff)
	}
}

func TestLedgerHoldsAPodOnce(t *testing.T) {
	tests := map[string]struct {
		second fence.Entry
		held   bool
	}{
		"the same checkpoint again":           {entry("a", "1", "pod"), false},
		"another checkpoint of the pod":       {entry("b", "2", "pod"), true},
		"a later object of the same name":     {entry("a", "3", "pod"), true},
		"another checkpoint of another pod":   {entry("b", "2", "other"), false},
		"a later object for another pod's ID": {entry("a", "3", "other"), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			l := open(t, filepath.Join(t.TempDir(), "frozen.json"))
			if err := l.Put(entry("a", "1", "pod")); err != nil {
				t.Fatal(err)
			}
			if err := l.Put(tc.second); errors.Is(err, fence.ErrHeld) != tc.held {
				t.Errorf("Put = %v, want held %v", err, tc.held)
			}
		})
	}
}

func TestLedgerPutsAnUnreadableFileAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "frozen.json")
	if err := os.WriteFile(path, []byte(`[{"checkp`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := open(t, path).All(); len(got) != 0 {
		t.Errorf("entries of a broken file: %v", got)
	}
	if _, err := os.Stat(path + ".corrupt"); err != nil {
		t.Errorf("the broken file was not kept: %v", err)
	}
}

func TestLedgerForgetsWhatItCouldNotWrite(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "missing", "frozen.json"))
	if err := l.Put(entry("a", "1", "pod")); err == nil {
		t.Fatal("Put into a missing directory succeeded")
	}
	if _, ok := l.Get(types.NamespacedName{Namespace: "ns", Name: "a"}); ok {
		t.Error("an entry that is not on the disk was kept")
	}
}

func TestFreezeAllNamesTheContainerThatFailed(t *testing.T) {
	f := &fake.Fence{}
	f.Set("one", fence.Running)
	err := fence.FreezeAll(t.Context(), f, []fence.Container{{Name: "app", ID: "one"}, {Name: "side", ID: "two"}})
	if !errors.Is(err, fence.ErrGone) {
		t.Fatalf("FreezeAll = %v, want ErrGone", err)
	}
	if err := fence.ThawAll(t.Context(), f, []fence.Container{{Name: "app", ID: "one"}, {Name: "side", ID: "two"}}); err != nil {
		t.Fatal(err)
	}
	if got := f.Get("one"); got != fence.Running {
		t.Errorf("state after ThawAll = %v, want running", got)
	}
}

// obedientFence freezes one container after the others have been tried, unless it is told to stop by then.
type obedientFence struct {
	*fake.Fence
	last   string
	others chan struct{}
}

func (f obedientFence) Freeze(ctx context.Context, id string) error {
	if id != f.last {
		defer close(f.others)
		return f.Fence.Freeze(ctx, id)
	}
	<-f.others
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.Fence.Freeze(ctx, id)
}

// TestFreezeAllAbandonsNone has one container fail and the caller give up while the other one is being frozen.
func TestFreezeAllAbandonsNone(t *testing.T) {
	f := obedientFence{Fence: &fake.Fence{}, last: "1", others: make(chan struct{})}
	f.Set("1", fence.Running)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := fence.FreezeAll(ctx, f, []fence.Container{{Name: "app", ID: "1"}, {Name: "ended", ID: "2"}})
	if !errors.Is(err, fence.ErrGone) || f.Get("1") != fence.Frozen {
		t.Errorf("FreezeAll = %v and app is %v; want ErrGone once the other one stands still", err, f.Get("1"))
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := fence.Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fence.Lock(ended, path); !errors.Is(err, context.Canceled) {
		t.Errorf("a second Lock = %v, want to wait", err)
	}
	unlock()
	again, err := fence.Lock(ended, path)
	if err != nil {
		t.Fatalf("Lock after unlock = %v", err)
	}
	again()
}
