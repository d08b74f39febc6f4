// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"context"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
)

const (
	// look is how often the agent asks the runtime, on the node, whether it is still the same.
	look = 20 * time.Second
	// firstAgain and lastAgain bound the pauses between tests that fail: some reasons pass.
	firstAgain = time.Minute
	lastAgain  = 30 * time.Minute
)

// Loop runs the test when the agent starts, whenever the runtime's version or configuration changed or it was started anew, and again
// in growing pauses while it fails.
type Loop struct {
	// Identity tells what runtime runs.
	Identity func(ctx context.Context) (containerd.Identity, error)
	// Test runs the test.
	Test func(ctx context.Context, version string) Report
	// Report takes each result; Seen takes the runtime's identity before its test.
	Report func(Report)
	Seen   func(containerd.Identity)
	// Clock is the time.
	Clock clock.Clock

	last  string
	pause time.Duration
	again time.Time
}

// Start runs until ctx ends.
func (l *Loop) Start(ctx context.Context) error {
	for {
		l.Step(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-l.Clock.After(look):
		}
	}
}

// Step runs the test if it is time for one.
func (l *Loop) Step(ctx context.Context) {
	logger := log.FromContext(ctx).WithName("selftest")
	id, err := l.Identity(ctx)
	if err != nil {
		logger.V(1).Info("The runtime does not answer", "error", err.Error())
		return
	}
	now := l.Clock.Now()
	changed := id.Fingerprint != l.last
	if !changed && (l.again.IsZero() || now.Before(l.again)) {
		return
	}
	if changed {
		l.Seen(id)
		l.pause = 0
	}
	report := l.Test(ctx, id.Version)
	if ctx.Err() != nil {
		return
	}
	l.last, l.again = id.Fingerprint, time.Time{}
	if !report.Method.Verified {
		l.pause = min(max(firstAgain, 2*l.pause), lastAgain)
		l.again = l.Clock.Now().Add(l.pause)
	}
	metrics.CountSelfTest(v1alpha1.RestoreMethodImage, report.Method.Verified, l.Clock.Now())
	logger.Info("Self-test ended", "runtime", id.Name, "verified", report.Method.Verified, "message", report.Method.Message)
	if report.CleaningFailure != nil {
		logger.Error(report.CleaningFailure, "Cleaning up after the self-test; the next one tries again")
	}
	l.Report(report)
}

// NotRun is the report of a test that was not run.
func NotRun(why string) Report {
	var r Report
	r.Done, r.Skipped = true, true
	r.Method = v1alpha1.RestoreMethod{Name: v1alpha1.RestoreMethodImage, Message: "not tested: " + why}
	return r
}
