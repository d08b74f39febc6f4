// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// ErrHeld means that another PodCheckpoint still has its hand on the pod.
var ErrHeld = errors.New("pod is held by another checkpoint")

// Container is a container that a checkpoint froze.
type Container struct {
	// Name is its name in the pod.
	Name string `json:"name"`
	// ID is its ID in the runtime.
	ID string `json:"id"`
}

// Entry is what one PodCheckpoint froze, or was about to.
type Entry struct {
	// Checkpoint and CheckpointUID are the PodCheckpoint.
	Checkpoint    types.NamespacedName `json:"checkpoint"`
	CheckpointUID types.UID            `json:"checkpointUID"`
	// Pod and PodUID are the pod; its namespace is that of the PodCheckpoint.
	Pod    string    `json:"pod"`
	PodUID types.UID `json:"podUID"`
	// Containers are those that ran when the entry was made. One that someone else had frozen before is not among them.
	Containers []Container `json:"containers"`
	// Since is when the entry was made, just before the first container was frozen.
	Since time.Time `json:"since"`
	// Until is when the pod has to be thawed, before Probe has the kubelet restart a container of it; zero where no probe does.
	Until time.Time `json:"until,omitzero"`
	Probe string    `json:"probe,omitempty"`
	// Thawed is true once the containers go on although the checkpoint is still being made. What stands still from then on is
	// not ours.
	Thawed bool `json:"thawed,omitempty"`
}

// Ledger is the node's record of what was frozen by us: an agent that starts anew thaws what no PodCheckpoint holds, and nothing
// that someone else froze. An entry is on the disk before its first container is frozen, and leaves it after the last was thawed.
// Its methods may be called concurrently.
type Ledger struct {
	path string

	mu      sync.Mutex
	entries map[types.NamespacedName]Entry
}

// OpenLedger reads the ledger at path, an empty one where there is no file. A file that can't be parsed is put aside as
// path.corrupt: what it named is found again through the PodCheckpoints.
func OpenLedger(path string) (*Ledger, error) {
	l := &Ledger{path: path, entries: map[types.NamespacedName]Entry{}}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading ledger %q: %w", path, err)
	}
	var entries []Entry
	if err := json.Unmarshal(raw, &entries); err != nil {
		if err := os.Rename(path, path+".corrupt"); err != nil {
			return nil, fmt.Errorf("putting aside unreadable ledger %q: %w", path, err)
		}
		return l, nil
	}
	for _, e := range entries {
		l.entries[e.Checkpoint] = e
	}
	return l, nil
}

// Put records an entry durably. It fails with ErrHeld while an entry of another PodCheckpoint names the same pod.
func (l *Ledger) Put(e Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, other := range l.entries {
		if other.PodUID == e.PodUID && (key != e.Checkpoint || other.CheckpointUID != e.CheckpointUID) {
			return fmt.Errorf("recording pod %q for checkpoint %q: %w %q", e.Pod, e.Checkpoint, ErrHeld, key)
		}
	}
	before, had := l.entries[e.Checkpoint]
	l.entries[e.Checkpoint] = e
	if err := l.save(); err != nil {
		delete(l.entries, e.Checkpoint)
		if had {
			l.entries[e.Checkpoint] = before
		}
		return err
	}
	return nil
}

// Get returns the entry of a PodCheckpoint.
func (l *Ledger) Get(checkpoint types.NamespacedName) (Entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.entries[checkpoint]
	return e, ok
}

// Holder returns the entry that names the pod.
func (l *Ledger) Holder(podUID types.UID) (Entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.PodUID == podUID {
			return e, true
		}
	}
	return Entry{}, false
}

// Drop forgets the entry of a PodCheckpoint.
func (l *Ledger) Drop(checkpoint types.NamespacedName) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, had := l.entries[checkpoint]
	if !had {
		return nil
	}
	delete(l.entries, checkpoint)
	if err := l.save(); err != nil {
		l.entries[checkpoint] = before
		return err
	}
	return nil
}

// All returns every entry, oldest first.
func (l *Ledger) All() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sorted()
}

func (l *Ledger) sorted() []Entry {
	all := make([]Entry, 0, len(l.entries))
	for _, e := range l.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Checkpoint.String(), b.Checkpoint.String()))
	})
	return all
}

func (l *Ledger) save() error {
	raw, err := json.Marshal(l.sorted())
	if err == nil {
		err = writeDurably(l.path, raw)
	}
	if err != nil {
		return fmt.Errorf("writing ledger %q: %w", l.path, err)
	}
	return nil
}

// writeDurably replaces a file so that after a power cut either the old or the new content is there.
func writeDurably(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
