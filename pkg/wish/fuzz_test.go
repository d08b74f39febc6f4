// SPDX-License-Identifier: Apache-2.0

package wish_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/wish"
)

// FuzzWish: whatever users write, what counts is within its bounds, what can't be read counts as not written, and the pod stays as it is.
func FuzzWish(f *testing.F) {
	f.Add("eviction,delete", "90s", "1m", "evict", "10m", "100")
	f.Add("", "", "", "", "", "")
	f.Add(",, eviction ,x", "-1s", "2540400h10m10.000000000s", "Block", "1ns", "9223372036854775808")
	f.Add("\x00", "1e9s", "0.0000000001s", "block", "999999999h", "+7")
	f.Fuzz(func(t *testing.T, on, deadline, freeze, failure, interval, value string) {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
			v1alpha1.AnnotationOn: on, v1alpha1.AnnotationDeadline: deadline, v1alpha1.AnnotationMaxFreeze: freeze,
			v1alpha1.AnnotationOnFailure: failure, v1alpha1.AnnotationInterval: interval, v1alpha1.AnnotationValue: value,
		}}}
		before := pod.DeepCopy()
		known := map[v1alpha1.Trigger]bool{}
		for _, t := range v1alpha1.Triggers() {
			known[t] = true
		}
		if triggers := wish.On(pod); triggers.Len() == 0 || triggers.Len() > len(known) {
			t.Errorf("triggers %v", triggers)
		}
		for trigger := range wish.On(pod) {
			if !known[trigger] || !wish.Triggered(pod, trigger) {
				t.Errorf("trigger %q", trigger)
			}
		}
		if d := wish.Deadline(pod); d <= 0 {
			t.Errorf("deadline %s", d)
		}
		if d := wish.MaxFreeze(pod); d < time.Second || d > time.Hour {
			t.Errorf("longest freeze %s", d)
		}
		if v := wish.OnFailure(pod); v != v1alpha1.OnFailureEvict && v != v1alpha1.OnFailureBlock {
			t.Errorf("on failure %q", v)
		}
		if d, ok := wish.Interval(pod); ok != (d > 0) || ok && d < v1alpha1.MinInterval {
			t.Errorf("interval %s, %v", d, ok)
		}
		if v := wish.Value(pod); v < 1 || v > v1alpha1.MaxValue {
			t.Errorf("value %d", v)
		}
		if w := wish.Warnings(pod); len(w) > 6 {
			t.Errorf("%d warnings", len(w))
		} else if diff := cmp.Diff(w, wish.Warnings(pod)); diff != "" {
			t.Errorf("other warnings the second time:\n%s", diff)
		}
		if diff := cmp.Diff(before, pod); diff != "" {
			t.Errorf("the pod was changed:\n%s", diff)
		}
	})
}
