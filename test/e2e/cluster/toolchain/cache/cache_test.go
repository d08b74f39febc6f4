// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
)

var entry = cache.Entry{Kind: "tool", Version: "v1", Key: cache.NewKey("inputs")}

// write returns a build that leaves one file.
func write(content string) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o644)
	}
}

func mustNotBuild(t *testing.T) func(context.Context, string) error {
	return func(context.Context, string) error {
		t.Error("build was called for an entry that is there")
		return nil
	}
}

// names lists what a person sees in the folder of the entry's kind.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, entry.Kind))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestEnsureBuildsOnce(t *testing.T) {
	store := cache.Open(t.TempDir())
	if _, ok := store.Lookup(entry); ok {
		t.Fatal("an empty cache says that it has the entry")
	}
	built, err := store.Ensure(t.Context(), entry, write("content"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := store.Ensure(t.Context(), entry, mustNotBuild(t))
	if err != nil {
		t.Fatal(err)
	}
	found, ok := store.Lookup(entry)
	if !ok || again != built || found != built {
		t.Errorf("built %q, then got %q and found %q (%v)", built, again, found, ok)
	}
	content, err := os.ReadFile(filepath.Join(built, "file"))
	if err != nil || string(content) != "content" {
		t.Errorf("the entry holds %q, %v", content, err)
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	store := cache.Open(dir)
	broken := errors.New("broken")
	_, err := store.Ensure(t.Context(), entry, func(ctx context.Context, dir string) error {
		return errors.Join(write("half")(ctx, dir), broken)
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got error %v", err)
	}
	if got := names(t, dir); got != nil {
		t.Errorf("a failed build left %v", got)
	}
	if _, err := store.Ensure(t.Context(), entry, write("whole")); err != nil {
		t.Errorf("building after a failure: %v", err)
	}
}

func TestLeftoversOfKilledRun(t *testing.T) {
	dir := t.TempDir()
	// The second one is of another version whose name begins alike, and somebody may be building it right now.
	for _, name := range []string{"v1-abc.building", "v1-rc.1-abc.building", "v1-old"} {
		if err := os.MkdirAll(filepath.Join(dir, entry.Kind, name, "half"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cache.Open(dir).Ensure(t.Context(), entry, write("")); err != nil {
		t.Fatal(err)
	}
	want := []string{"v1-" + entry.Key.String(), "v1-old", "v1-rc.1-abc.building"}
	slices.Sort(want)
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestOldEntriesGo(t *testing.T) {
	dir := t.TempDir()
	store := cache.Open(dir)
	used, unused := entry, entry
	used.Key, unused.Key = cache.NewKey("used"), cache.NewKey("unused")
	long := time.Now().AddDate(0, -2, 0)
	for _, old := range []cache.Entry{used, unused} {
		path, err := store.Ensure(t.Context(), old, write(""))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range []cache.Entry{used, entry} {
		if _, err := store.Ensure(t.Context(), e, write("")); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"v1-" + entry.Key.String(), "v1-" + used.Key.String()}
	slices.Sort(want)
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestConcurrentCallersShareOneBuild(t *testing.T) {
	dir := t.TempDir()
	var builds atomic.Int32
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			_, err := cache.Open(dir).Ensure(t.Context(), entry, func(ctx context.Context, dir string) error {
				builds.Add(1)
				return write("")(ctx, dir)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if got := builds.Load(); got != 1 {
		t.Errorf("built %d times", got)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	store := cache.Open(t.TempDir())
	building, release := make(chan struct{}), make(chan struct{})
	var first sync.WaitGroup
	first.Go(func() {
		_, err := store.Ensure(t.Context(), entry, func(context.Context, string) error {
			close(building)
			<-release
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-building
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Ensure(ctx, entry, mustNotBuild(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting with an ended context gave %v", err)
	}
	close(release)
	first.Wait()
}

func TestRemoveSparesWhatIsMounted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	outside := t.TempDir()
	precious := filepath.Join(outside, "precious")
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(t.TempDir(), "tree")
	point := filepath.Join(tree, "a mount")
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(outside, point, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("mounting is not allowed here: %v", err)
	}
	if err := cache.Remove(tree); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("a file behind a mount: %v", err)
	}
	if _, err := os.Stat(tree); !os.IsNotExist(err) {
		t.Errorf("the tree is still there: %v", err)
	}
}

func TestDir(t *testing.T) {
	tests := map[string]struct {
		env  map[string]string
		want string
	}{
		"ours":        {env: map[string]string{cache.DirEnv: "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, want: "/a"},
		"the user's":  {env: map[string]string{cache.DirEnv: "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, want: "/b/cryopod"},
		"the default": {env: map[string]string{cache.DirEnv: "", "XDG_CACHE_HOME": "", "HOME": "/c"}, want: "/c/.cache/cryopod"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			got, err := cache.Dir()
			if err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}
