// SPDX-License-Identifier: Apache-2.0

package timeline_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/recorder"
	"github.com/cryopod/cryopod/test/e2e/timeline"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func after(seconds float64) time.Time {
	return begin.Add(time.Duration(seconds * float64(time.Second)))
}

func entered(p v1alpha1.Phase, seconds float64) v1alpha1.PhaseTiming {
	return v1alpha1.PhaseTiming{Phase: p, Time: metav1.NewMicroTime(after(seconds))}
}

func sec(s float64) *timeline.Seconds {
	return ptr.To(timeline.Seconds(s))
}

func whole() timeline.Observations {
	return timeline.Observations{
		Requested: begin,
		Timings: []v1alpha1.PhaseTiming{
			entered(v1alpha1.PhaseFreezing, 0.1), entered(v1alpha1.PhaseDumping, 0.2), entered(v1alpha1.PhaseExporting, 1.2),
			entered(v1alpha1.PhaseReady, 1.7), entered(v1alpha1.PhaseClaimed, 2.6), entered(v1alpha1.PhaseRestored, 5),
		},
		Replacement: timeline.Seen{Created: after(2.7), Bound: after(2.8), Pulled: ptr.To(400 * time.Millisecond)},
		Move:        recorder.Move{First: recorder.Entry{Message: recorder.Message{Step: 8}, Node: "node-2", Time: after(4.2)}},
	}
}

func TestPhases(t *testing.T) {
	cases := map[string]struct {
		change func(*timeline.Observations)
		want   timeline.Phases
	}{
		"all seen": {
			change: func(*timeline.Observations) {},
			want: timeline.Phases{
				Freeze: sec(0.1), Dump: sec(1), Export: sec(0.5), Evict: sec(1), Schedule: sec(0.1), Pull: sec(0.4), Restore: sec(1),
			},
		},
		"no word of a pull": {
			change: func(o *timeline.Observations) { o.Replacement.Pulled = nil },
			want:   timeline.Phases{Freeze: sec(0.1), Dump: sec(1), Export: sec(0.5), Evict: sec(1), Schedule: sec(0.1)},
		},
		"no checkpoint": {
			change: func(o *timeline.Observations) { o.Timings = nil },
			want:   timeline.Phases{Schedule: sec(0.1), Pull: sec(0.4), Restore: sec(1)},
		},
		"nothing seen": {change: func(o *timeline.Observations) { *o = timeline.Observations{} }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := whole()
			c.change(&o)
			if diff := cmp.Diff(c.want, o.Phases(), cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				t.Errorf("Phases (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrint(t *testing.T) {
	var b strings.Builder
	o := whole()
	o.Timings = o.Timings[1:]
	o.Print(&b)
	for _, want := range []string{
		"   not seen  freeze               all containers of the pod stand still\n",
		"    +1.20 s  push         0.50 s  packed as an image and sent to the registry\n",
		"    +4.20 s  running              step 8 arrives from node-2\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no line %q in:\n%s", want, b.String())
		}
	}
}

func pod(uid types.UID, node string, deleted bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: uid}, Spec: corev1.PodSpec{NodeName: node}}
	if deleted {
		p.DeletionTimestamp = &metav1.Time{Time: begin}
	}
	return p
}

func event(uid types.UID, reason, message string) *corev1.Event {
	return &corev1.Event{InvolvedObject: corev1.ObjectReference{UID: uid}, Reason: reason, Message: message}
}

func TestNote(t *testing.T) {
	const size = " Image size: 12 bytes."
	cases := map[string]struct {
		events []watch.Event
		want   timeline.Seen
	}{
		"nothing": {},
		"a life": {
			events: []watch.Event{
				{Type: watch.Added, Object: pod("a", "", false)},
				{Type: watch.Added, Object: pod("other", "n", true)},
				{Type: watch.Modified, Object: pod("a", "n", false)},
				{Type: watch.Modified, Object: pod("a", "n", false)},
				{Type: watch.Modified, Object: pod("a", "n", true)},
				{Type: watch.Deleted, Object: pod("a", "n", true)},
			},
			want: timeline.Seen{Created: after(0), Bound: after(2), Deleted: after(4)},
		},
		"pulls add up": {
			events: []watch.Event{
				{Type: watch.Added, Object: event("a", "Pulled", `Successfully pulled image "r/x:y" in 250ms (1.5s including waiting).`+size)},
				{Type: watch.Modified, Object: event("a", "Pulled", `Successfully pulled image "r/x:y" in 250ms (1.5s including waiting).`+size)},
				{Type: watch.Added, Object: event("a", "Pulled", `Successfully pulled image "r/z:y" in 1.25s (1.5s including waiting).`+size)},
				{Type: watch.Added, Object: event("a", "Started", `Started container x`)},
			},
			want: timeline.Seen{Pulled: ptr.To(1500 * time.Millisecond)},
		},
		"an image that was there": {
			events: []watch.Event{{Type: watch.Added, Object: event("a", "Pulled", `Container image "r/x:y" already present on machine and can be accessed by the pod`)}},
			want:   timeline.Seen{Pulled: ptr.To(time.Duration(0))},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := timeline.NewObserver()
			for i, e := range c.events {
				o.Note(e, after(float64(i)))
			}
			if diff := cmp.Diff(c.want, o.Pod("a")); diff != "" {
				t.Errorf("Pod (-want +got):\n%s", diff)
			}
		})
	}
}
