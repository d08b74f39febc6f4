// SPDX-License-Identifier: Apache-2.0

// Package fake holds a recorder of events for tests.
package fake

import (
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
)

// Recorder keeps every event as one line: "Type Reason on NAME: message". The zero value is ready for use, from many goroutines
// at once.
type Recorder struct {
	mu    sync.Mutex
	lines []string
}

// Eventf keeps an event.
func (r *Recorder) Eventf(regarding, _ runtime.Object, eventtype, reason, _, note string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf("%s %s on %s: %s", eventtype, reason, nameOf(regarding), fmt.Sprintf(note, args...)))
}

// Lines are the events so far.
func (r *Recorder) Lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

func nameOf(obj runtime.Object) string {
	if ref, ok := obj.(*corev1.ObjectReference); ok {
		return ref.Name
	}
	if o, err := meta.Accessor(obj); err == nil {
		return o.GetName()
	}
	return "?"
}
