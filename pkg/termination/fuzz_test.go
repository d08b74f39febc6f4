// SPDX-License-Identifier: Apache-2.0

package termination_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/termination"
)

// FuzzDecode: a notice that can be read is within its bounds, and reads the same when it is written and read again.
func FuzzDecode(f *testing.F) {
	for _, n := range []termination.Notice{notice(spot, 0, time.Minute, false), notice(autoscaler, time.Minute, time.Hour, true)} {
		f.Add(n.Encode())
	}
	f.Add(`{"cause":"a","since":"9999-12-31T23:30:00-23:59","deadline":"9999-12-31T23:59:59-23:59"}`)
	f.Add(`{"cause":"a","since":"0000-01-01T00:00:00+23:59","deadline":"0000-01-01T00:10:00+23:59"}`)
	f.Add(`{"cause":"a","since":"2026-01-02T03:04:05.9999999Z","deadline":"2026-01-02T03:04:05.99999999Z"}`)
	f.Add(`{"cause":"a"}}`)
	f.Add("null")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := termination.Decode(text)
		if err != nil {
			return
		}
		if length := n.Deadline.Sub(n.Since); n.Cause == "" || length <= 0 || length > termination.MaxNotice {
			t.Fatalf("read %+v", n)
		}
		again, err := termination.Decode(n.Encode())
		if err != nil {
			t.Fatalf("reading %q again: %v", n.Encode(), err)
		}
		if again.Encode() != n.Encode() {
			t.Errorf("%q became %q", n.Encode(), again.Encode())
		}
	})
}

// FuzzStamp: whatever is in a node's annotation, no notice gets longer by it, and what is stamped stays.
func FuzzStamp(f *testing.F) {
	f.Add(notice(spot, 0, time.Minute, false).Encode(), true, false)
	f.Add(notice(spot, 0, time.Hour, true).Encode(), true, true)
	f.Add("soon", false, true)
	f.Fuzz(func(t *testing.T, text string, isSpot, isShort bool) {
		node := nodeWith(annotated(text))
		if isSpot {
			tainted(spot)(node)
		}
		if isShort {
			tainted(preempted)(node)
		}
		list := termination.Defaults()
		n, ok := list.Of(node, now)
		if ok != (isSpot || isShort) {
			t.Fatalf("notice %v, %v", n, ok)
		}
		if ok && n.Deadline.After(now.Add(4*time.Minute)) {
			t.Errorf("the notice ends at %s, %s from now", n.Deadline, n.Deadline.Sub(now))
		}
		value, change := list.Stamp(node, now)
		if !change && value != text {
			t.Errorf("unchanged, but %q of %q", value, text)
		}
		stamped := node.DeepCopy()
		stamped.Annotations = map[string]string{}
		if value != "" {
			annotated(value)(stamped)
		}
		if value, change := list.Stamp(stamped, now); change {
			t.Errorf("stamped again, to %q", value)
		}
		if n, runs := termination.Running(node, now); runs && (n.Deadline.After(now.Add(termination.MaxNotice)) || !n.Deadline.After(now)) {
			t.Errorf("%+v runs", n)
		}
	})
}

// FuzzParse: a list that can be read has no key twice and each notice within its bounds, and says the same when it is written out.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "a=60s", "a.com/b=90s:voluntary,-karpenter.sh/disrupted", "a=1h:drained", "a=5s,,", "-a", "a=60s,a=60s", "=", "a=1s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := termination.Parse(text)
		if err != nil {
			if l != nil {
				t.Errorf("list %v with error %v", l, err)
			}
			return
		}
		seen, written := map[string]bool{}, ""
		for _, taint := range termination.Defaults() {
			if _, ok := l.Find(taint.Key); !ok {
				written += "-" + taint.Key + ","
			}
		}
		for _, taint := range l {
			if seen[taint.Key] || taint.Key == corev1.TaintNodeOutOfService || taint.Notice < 5*time.Second || taint.Notice > time.Hour {
				t.Errorf("taint %+v", taint)
			}
			seen[taint.Key] = true
			written += taint.Key + "=" + taint.Notice.String()
			switch {
			case taint.Drained:
				written += ":drained"
			case taint.Voluntary:
				written += ":voluntary"
			}
			written += ","
		}
		again, err := termination.Parse(written)
		if err != nil {
			t.Fatalf("reading %q: %v", written, err)
		}
		if diff := cmp.Diff(l, again); diff != "" {
			t.Errorf("%q (-want +got):\n%s", written, diff)
		}
	})
}
