// SPDX-License-Identifier: Apache-2.0

package progress_test

import (
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/progress"
)

// watcher keeps what is written and says when a line has a text.
type watcher struct {
	mu    sync.Mutex
	text  strings.Builder
	until string
	seen  chan struct{}
	once  sync.Once
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	if strings.Contains(string(p), w.until) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(p), nil
}

func TestStepTellsOfItself(t *testing.T) {
	failure := errors.New("no disk")
	tests := map[string]struct {
		err  error
		want string
	}{
		"success": {want: `^build: begins\n(build: still running after \d+ s\n)+build: done in \d+\.\d s\n$`},
		"failure": {err: failure, want: `^build: begins\n(build: still running after \d+ s\n)+build: failed after \d+\.\d s\n$`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out := &watcher{until: "still running", seen: make(chan struct{})}
			err := progress.NewEvery(out, time.Millisecond).Step("build", func() error {
				<-out.seen
				return test.err
			})
			if !errors.Is(err, test.err) {
				t.Errorf("got error %v", err)
			}
			if got := out.text.String(); !regexp.MustCompile(test.want).MatchString(got) {
				t.Errorf("told:\n%s", got)
			}
		})
	}
}

func TestSilentLogStillWorks(t *testing.T) {
	called := false
	err := progress.New(nil).Step("build", func() error {
		called = true
		return nil
	})
	if err != nil || !called {
		t.Errorf("called: %v, error: %v", called, err)
	}
}
