// SPDX-License-Identifier: Apache-2.0

package termination

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	// clockSkew is how much the clocks of those who read and write notices may differ.
	clockSkew = time.Minute

	// maxText is how long an annotation is read at all; the longest key of a taint has 316 characters.
	maxText = 1024

	// lastYear is the last one that a time can be written with.
	lastYear = 9999
)

// Notice is the announced end of a node.
type Notice struct {
	// Cause is the key of the taint.
	Cause string `json:"cause"`
	// Since is when it was announced.
	Since time.Time `json:"since"`
	// Deadline is when the node ends, or may end.
	Deadline time.Time `json:"deadline"`
	// Voluntary is whether the node stays until its pods have gone.
	Voluntary bool `json:"voluntary,omitempty"`
	// Drained is whether somebody else drains the node, once it can be done without.
	Drained bool `json:"drained,omitempty"`
}

// Encode is the notice as the value of v1alpha1.AnnotationNotice.
func (n Notice) Encode() string {
	n.Since, n.Deadline = n.Since.UTC().Truncate(time.Millisecond), n.Deadline.UTC().Truncate(time.Millisecond)
	// Strings, times and truths can always be encoded.
	text, _ := json.Marshal(n)
	return string(text)
}

// Decode reads what Encode wrote. The text may be anybody's.
func Decode(text string) (Notice, error) {
	if text == "" || len(text) > maxText {
		return Notice{}, fmt.Errorf("reading a notice: %d characters are not between 1 and %d", len(text), maxText)
	}
	var n Notice
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&n); err != nil {
		return Notice{}, fmt.Errorf("reading a notice: %w", err)
	}
	if d.More() {
		return Notice{}, errors.New("reading a notice: there is more than one")
	}
	n.Since, n.Deadline = n.Since.UTC().Truncate(time.Millisecond), n.Deadline.UTC().Truncate(time.Millisecond)
	switch length := n.Deadline.Sub(n.Since); {
	case n.Since.Year() < 1 || n.Deadline.Year() > lastYear:
		return Notice{}, errors.New("reading a notice: it is not of this era")
	case n.Cause == "":
		return Notice{}, errors.New("reading a notice: it has no cause")
	case length <= 0 || length > MaxNotice:
		return Notice{}, fmt.Errorf("reading a notice: from its begin to its deadline are %s, not between 0 and %s", length, MaxNotice)
	}
	return n, nil
}

// Running is the node's notice by its annotation, false when there is none, or it is over, or it can't be true.
func Running(node *corev1.Node, now time.Time) (Notice, bool) {
	text, ok := node.Annotations[v1alpha1.AnnotationNotice]
	if !ok {
		return Notice{}, false
	}
	n, err := Decode(text)
	if err != nil {
		return Notice{}, false
	}
	return n, n.RunsAt(now)
}

// RunsAt tells whether that time lies within the notice, and the notice can be true then.
func (n Notice) RunsAt(now time.Time) bool {
	left := n.Deadline.Sub(now)
	return left > 0 && left <= MaxNotice && n.Since.Before(now.Add(clockSkew))
}

// Margin is how long before the deadline the pods should be on their way: room for the last deletions to reach the kubelet.
func (n Notice) Margin() time.Duration {
	const twentieth = 20
	return time.Second + n.Deadline.Sub(n.Since)/twentieth
}

// Stamp is the value that the node's annotation should have at that time, empty for none, and whether it differs from what it has.
func (l List) Stamp(node *corev1.Node, now time.Time) (value string, change bool) {
	have, annotated := node.Annotations[v1alpha1.AnnotationNotice]
	want, ok := l.Of(node, now)
	if !ok {
		return "", annotated
	}
	if known, err := Decode(have); err == nil && same(known, want) {
		return have, false
	}
	return want.Encode(), true
}

func same(a, b Notice) bool {
	return a.Cause == b.Cause && a.Voluntary == b.Voluntary && a.Drained == b.Drained && a.Since.Equal(b.Since) && a.Deadline.Equal(b.Deadline)
}
