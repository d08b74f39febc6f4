// SPDX-License-Identifier: Apache-2.0

package retention_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/retention"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const mega = 1 << 20

// checkpoint is one of namespace shop that was made at start and entered the phase that long after. It has an image of 10 MiB.
func checkpoint(name string, phase v1alpha1.Phase, after time.Duration, change ...func(*v1alpha1.PodCheckpoint)) v1alpha1.PodCheckpoint {
	pc := v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(start)},
		Spec:       v1alpha1.PodCheckpointSpec{PodName: "pod-of-" + name, PodUID: types.UID("uid-of-" + name), Reason: v1alpha1.ReasonEviction},
		Status: v1alpha1.PodCheckpointStatus{
			Owner: &v1alpha1.Owner{UID: "rs", APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart"},
			Containers: []v1alpha1.ContainerCheckpoint{{
				Name: "app", ImageTag: "reg.test/x/shop:" + name + ".app", Image: "reg.test/x/shop@sha256:1", PushedBytes: 10 * mega,
			}},
		},
	}
	pc.Status.Enter(phase, "", start.Add(after))
	for _, f := range change {
		f(&pc)
	}
	return pc
}

func ownedBy(uid types.UID) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) { pc.Status.Owner.UID = uid }
}

func withoutImages(pc *v1alpha1.PodCheckpoint) {
	pc.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionImagesRemoved, Status: metav1.ConditionTrue}}
}

func neverPushed(pc *v1alpha1.PodCheckpoint) {
	pc.Status.Containers = []v1alpha1.ContainerCheckpoint{{Name: "app", BaseImage: "app:1"}}
}

func scheduled(pc *v1alpha1.PodCheckpoint) {
	pc.Spec.Reason, pc.Spec.Fence = v1alpha1.ReasonSchedule, false
}

// living makes the checkpoint one of the pod that lives.
func living(pc *v1alpha1.PodCheckpoint) { pc.Spec.PodUID = "living" }

func TestDecide(t *testing.T) {
	restored, failed := v1alpha1.PhaseRestored, v1alpha1.PhaseFailed
	policy := retention.Policy{Count: 3, Age: time.Hour}
	keep := retention.Policy{Count: 3, Age: time.Hour, KeepImages: true}
	quota := func(bytes int64) retention.Policy {
		p := keep
		p.Bytes = bytes
		return p
	}
	of := func(pcs ...v1alpha1.PodCheckpoint) []v1alpha1.PodCheckpoint { return pcs }
	for name, tc := range map[string]struct {
		all    []v1alpha1.PodCheckpoint
		policy retention.Policy
		now    time.Duration
		want   []string
		after  time.Duration
	}{
		"nothing": {policy: policy},
		"just over": {
			all: of(checkpoint("a", restored, time.Minute)), policy: policy, now: time.Minute, after: time.Minute,
		},
		"of no more use": {
			all: of(checkpoint("a", restored, time.Minute)), policy: policy, now: 2 * time.Minute,
			want: []string{"a over"}, after: 59 * time.Minute,
		},
		"its images are gone already": {
			all: of(checkpoint("a", restored, time.Minute, withoutImages)), policy: policy, now: 3 * time.Minute, after: 58 * time.Minute,
		},
		"it never had any": {
			all: of(checkpoint("a", failed, time.Minute, neverPushed)), policy: policy, now: 3 * time.Minute, after: 58 * time.Minute,
		},
		"it failed while it was pushed": {
			all: of(checkpoint("a", v1alpha1.PhaseExporting, time.Second, neverPushed, func(pc *v1alpha1.PodCheckpoint) {
				pc.Status.Enter(failed, "", start.Add(time.Minute))
			})),
			policy: policy, now: 3 * time.Minute, want: []string{"a over"}, after: 58 * time.Minute,
		},
		"images are kept": {
			all: of(checkpoint("a", restored, time.Minute)), policy: keep, now: 3 * time.Minute, after: 58 * time.Minute,
		},
		"too old": {
			all: of(checkpoint("a", restored, time.Minute), checkpoint("b", failed, 2*time.Minute, neverPushed)), policy: keep, now: 61 * time.Minute,
			want: []string{"a and its object age"}, after: time.Minute,
		},
		"without timings": {
			all: of(checkpoint("a", failed, 0, func(pc *v1alpha1.PodCheckpoint) { pc.Status.Timings = nil })), policy: keep, now: time.Hour,
			want: []string{"a and its object age"},
		},
		"too many of an owner": {
			all: of(
				checkpoint("a", restored, 4*time.Minute), checkpoint("b", failed, 3*time.Minute), checkpoint("c", restored, 2*time.Minute),
				checkpoint("d", restored, 1*time.Minute), checkpoint("e", restored, 5*time.Minute),
			),
			policy: keep, now: 20 * time.Minute, want: []string{"d and its object count", "c and its object count"}, after: 43 * time.Minute,
		},
		"too many, but of different owners": {
			all: of(
				checkpoint("a", restored, 0), checkpoint("b", restored, 0), checkpoint("c", restored, 0, ownedBy("rs2")), checkpoint("d", restored, 0, ownedBy("rs2")),
				checkpoint("e", restored, 0, func(pc *v1alpha1.PodCheckpoint) { pc.Status.Owner = nil }),
				checkpoint("f", restored, 0, func(pc *v1alpha1.PodCheckpoint) { pc.Status.Owner = nil }),
			),
			policy: retention.Policy{Count: 2, Age: time.Hour, KeepImages: true}, now: 20 * time.Minute, after: 40 * time.Minute,
		},
		"too many, but one still counts for the eviction that it was made for": {
			all: of(
				checkpoint("a", v1alpha1.PhaseReleased, time.Second, func(pc *v1alpha1.PodCheckpoint) {
					pc.Spec.Deadline = &metav1.Time{Time: start.Add(10 * time.Minute)}
				}),
				checkpoint("b", restored, 2*time.Second), checkpoint("c", restored, 3*time.Second), checkpoint("d", restored, 4*time.Second),
			),
			policy: keep, now: 11 * time.Minute, after: time.Minute,
		},
		"any number": {
			all:    of(checkpoint("a", restored, 0), checkpoint("b", restored, 0), checkpoint("c", restored, 0), checkpoint("d", restored, 0)),
			policy: retention.Policy{Age: time.Hour, KeepImages: true}, now: 20 * time.Minute, after: 40 * time.Minute,
		},
		"what is needed stays, however much, many and old": {
			all: of(
				checkpoint("a", "", 0), checkpoint("b", v1alpha1.PhasePending, 0), checkpoint("c", v1alpha1.PhaseFreezing, 0),
				checkpoint("d", v1alpha1.PhaseDumping, 0), checkpoint("e", v1alpha1.PhaseExporting, 0), checkpoint("f", v1alpha1.PhaseReady, 0),
				checkpoint("g", v1alpha1.PhaseClaimed, 0), checkpoint("h", v1alpha1.PhaseReady, 0, scheduled),
			),
			policy: retention.Policy{Count: 1, Age: time.Second, Bytes: 1}, now: 1000 * time.Hour,
		},
		"what is needed does not count": {
			all:    of(checkpoint("a", v1alpha1.PhaseReady, 5*time.Minute), checkpoint("b", v1alpha1.PhaseClaimed, 4*time.Minute), checkpoint("c", restored, 3*time.Minute)),
			policy: retention.Policy{Count: 1, Age: time.Hour, KeepImages: true}, now: 20 * time.Minute, after: 43 * time.Minute,
		},
		"of a pod saved again and again, those that were expired go": {
			all: of(
				checkpoint("a", v1alpha1.PhaseExpired, 10*time.Minute, scheduled), checkpoint("b", v1alpha1.PhaseExpired, 20*time.Minute, scheduled),
				checkpoint("c", v1alpha1.PhaseReady, 20*time.Minute, scheduled),
			),
			policy: policy, now: 21 * time.Minute, want: []string{"a over", "b over"}, after: 49 * time.Minute,
		},
		"what failed since a pod that lives was last saved tells when it is to be saved again": {
			all: of(
				checkpoint("a", failed, 1*time.Minute, scheduled, living), checkpoint("b", failed, 2*time.Minute, scheduled, living),
				checkpoint("c", failed, 3*time.Minute, scheduled, living), checkpoint("d", failed, 4*time.Minute, scheduled, living),
				checkpoint("e", failed, 5*time.Minute, scheduled, living), checkpoint("f", failed, 5*time.Minute, living),
			),
			policy: retention.Policy{Count: 1, Age: time.Hour, KeepImages: true}, now: 48 * time.Hour,
			want: []string{"a and its object age", "f and its object age"},
		},
		"what failed does not count while it tells": {
			all: of(
				checkpoint("a", failed, 1*time.Minute, scheduled, living), checkpoint("b", failed, 2*time.Minute, scheduled, living),
				checkpoint("c", restored, 3*time.Minute),
			),
			policy: retention.Policy{Count: 1, Age: time.Hour}, now: 10 * time.Minute, want: []string{"a over", "b over", "c over"}, after: 53 * time.Minute,
		},
		"what failed before a pod was saved tells nothing": {
			all: of(
				checkpoint("a", failed, 1*time.Minute, scheduled, living), checkpoint("b", v1alpha1.PhaseReady, 2*time.Minute, scheduled, living),
				checkpoint("c", failed, 3*time.Minute, scheduled, living),
			),
			policy: keep, now: 48 * time.Hour, want: []string{"a and its object age"},
		},
		"what failed of a pod that is gone tells nothing": {
			all:    of(checkpoint("a", failed, time.Minute, scheduled), checkpoint("b", failed, 2*time.Minute, scheduled)),
			policy: keep, now: 48 * time.Hour, want: []string{"a and its object age", "b and its object age"},
		},
		"old enough, but it still counts for its eviction": {
			all: of(checkpoint("a", failed, time.Second, func(pc *v1alpha1.PodCheckpoint) {
				pc.Spec.Deadline = &metav1.Time{Time: start.Add(10 * time.Minute)}
			})),
			policy: retention.Policy{Age: time.Second, KeepImages: true}, now: 11 * time.Minute, after: time.Minute,
		},
		"too large, the oldest first": {
			all: of(
				checkpoint("a", restored, 2*time.Second), checkpoint("b", restored, time.Second, ownedBy("rs2")), checkpoint("c", restored, 3*time.Second),
				checkpoint("d", v1alpha1.PhaseReady, time.Second),
			),
			policy: quota(25 * mega), now: 10 * time.Second, want: []string{"b bytes", "a bytes"}, after: time.Hour - 9*time.Second,
		},
		"just large enough": {
			all:    of(checkpoint("a", restored, 0), checkpoint("b", v1alpha1.PhaseReady, 0)),
			policy: quota(20 * mega), now: time.Second, after: time.Hour - time.Second,
		},
		"what goes by another rule no longer counts": {
			all:    of(checkpoint("a", restored, 0), checkpoint("b", restored, time.Minute)),
			policy: quota(10 * mega), now: time.Hour, want: []string{"a and its object age"}, after: time.Minute,
		},
		"too large by what is needed alone": {
			all:    of(checkpoint("a", restored, 0), checkpoint("b", v1alpha1.PhaseReady, 0), checkpoint("c", v1alpha1.PhaseReady, 0)),
			policy: quota(15 * mega), now: time.Second, want: []string{"a bytes"}, after: time.Hour - time.Second,
		},
		"it is being deleted": {
			all: of(checkpoint("a", restored, 0, func(pc *v1alpha1.PodCheckpoint) {
				pc.DeletionTimestamp, pc.Finalizers = &metav1.Time{Time: start}, []string{"x/y"}
			})),
			policy: policy, now: 10 * time.Hour,
		},
	} {
		t.Run(name, func(t *testing.T) {
			lives := func(pc *v1alpha1.PodCheckpoint) bool { return pc.Spec.PodUID == "living" }
			plan := retention.Decide(tc.all, lives, tc.policy, start.Add(tc.now))
			var got []string
			for _, r := range plan.Removals {
				object := ""
				if r.Object {
					object = " and its object"
				}
				got = append(got, fmt.Sprintf("%s%s %s", r.Checkpoint.Name, object, r.Rule))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("removals (-want +got):\n%s", diff)
			}
			if plan.After != tc.after {
				t.Errorf("looks again after %s, want %s", plan.After, tc.after)
			}
		})
	}
}

func TestOverride(t *testing.T) {
	cluster := retention.Policy{Count: 3, Age: time.Hour, Bytes: 5, KeepImages: true}
	for name, tc := range map[string]struct {
		annotations map[string]string
		want        retention.Policy
		wrong       []string
	}{
		"none": {want: cluster},
		"all": {
			annotations: map[string]string{
				v1alpha1.AnnotationRetentionCount: "7", v1alpha1.AnnotationRetentionAge: "24h", v1alpha1.AnnotationRetentionBytes: "1.5Gi",
			},
			want: retention.Policy{Count: 7, Age: 24 * time.Hour, Bytes: 3 << 29, KeepImages: true},
		},
		"no bounds": {
			annotations: map[string]string{v1alpha1.AnnotationRetentionCount: "0", v1alpha1.AnnotationRetentionBytes: "0"},
			want:        retention.Policy{Age: time.Hour, KeepImages: true},
		},
		"unreadable": {
			annotations: map[string]string{
				v1alpha1.AnnotationRetentionCount: "-1", v1alpha1.AnnotationRetentionAge: "1d", v1alpha1.AnnotationRetentionBytes: "much",
			},
			want: cluster,
			wrong: []string{
				`checkpoint.io/retention-count="-1" is not a whole number of 0 (no bound) or more`,
				`checkpoint.io/retention-age="1d" is not a positive duration like "90m"`,
				`checkpoint.io/retention-bytes="much" is not a quantity like "20Gi", or 0 for no bound`,
			},
		},
		"one unreadable, one not": {
			annotations: map[string]string{v1alpha1.AnnotationRetentionAge: "0s", v1alpha1.AnnotationRetentionBytes: "10"},
			want:        retention.Policy{Count: 3, Age: time.Hour, Bytes: 10, KeepImages: true},
			wrong:       []string{`checkpoint.io/retention-age="0s" is not a positive duration like "90m"`},
		},
		"negative bytes": {
			annotations: map[string]string{v1alpha1.AnnotationRetentionBytes: "-1Gi"}, want: cluster,
			wrong: []string{`checkpoint.io/retention-bytes="-1Gi" is not a quantity like "20Gi", or 0 for no bound`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, wrong := cluster.Override(tc.annotations)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("policy (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.wrong, wrong); diff != "" {
				t.Errorf("wrong (-want +got):\n%s", diff)
			}
		})
	}
}
