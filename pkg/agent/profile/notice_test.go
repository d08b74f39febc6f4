// SPDX-License-Identifier: Apache-2.0

package profile_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/cryopod/cryopod/pkg/agent/profile"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func notice(cause v1alpha1.NoticeCause) *v1alpha1.NodeNotice {
	return &v1alpha1.NodeNotice{Cause: cause, Since: metav1.NewMicroTime(now), Deadline: metav1.NewMicroTime(now.Add(time.Minute))}
}

func TestNotice(t *testing.T) {
	const shutdown, pressure = v1alpha1.NoticeShutdown, v1alpha1.NoticeMemoryPressure
	tests := map[string]struct {
		announce func(*profile.Profile)
		want     v1alpha1.NoticeCause
	}{
		"nothing":  {func(*profile.Profile) {}, ""},
		"pressure": {func(p *profile.Profile) { p.Announce(pressure, notice(pressure)) }, pressure},
		"the shutdown goes first": {func(p *profile.Profile) {
			p.Announce(pressure, notice(pressure))
			p.Announce(shutdown, notice(shutdown))
		}, shutdown},
		"and does so if it is first": {func(p *profile.Profile) {
			p.Announce(shutdown, notice(shutdown))
			p.Announce(pressure, notice(pressure))
		}, shutdown},
		"one is over": {func(p *profile.Profile) {
			p.Announce(shutdown, notice(shutdown))
			p.Announce(pressure, notice(pressure))
			p.Announce(shutdown, nil)
		}, pressure},
		"one that never was is over": {func(p *profile.Profile) { p.Announce(shutdown, nil) }, ""},
	}
	// A former life's is over, whatever else of it stays.
	before := v1alpha1.NodeProfileStatus{Notice: notice(shutdown), RestoreMethods: []v1alpha1.RestoreMethod{{Name: "image"}}}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := &profile.Profile{}
			tc.announce(p)
			got := profile.StatusOf(p.Facts(), before, now).Notice
			if tc.want == "" && got == nil {
				return
			}
			want := notice(tc.want)
			want.Since.Time, want.Deadline.Time = now.Truncate(time.Microsecond), now.Add(time.Minute).Truncate(time.Microsecond)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("notice (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNoticeIsUrgent has a notice written without the pause that other changes wait for company.
func TestNoticeIsUrgent(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api := fake.NewClientBuilder().WithScheme(scheme).WithObjects(&v1alpha1.NodeProfile{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}).Build()
	facts := &profile.Profile{}
	p := profile.NewPublisher("node-1", api, facts.Facts, clocktesting.NewFakeClock(now)) // Time stands still.
	facts.Changed, facts.Urgent = p.Changed, p.Urgent
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Start(ctx) }()
	facts.Update(func(f *profile.Facts) { f.Runtime = "containerd://2.3.7" })
	facts.Announce(v1alpha1.NoticeShutdown, notice(v1alpha1.NoticeShutdown))
	got := &v1alpha1.NodeProfile{}
	for end := time.Now().Add(10 * time.Second); got.Status.Notice == nil; time.Sleep(time.Millisecond) {
		if err := api.Get(ctx, client.ObjectKey{Name: "node-1"}, got); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatal("the notice waits")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
