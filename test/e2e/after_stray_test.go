// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

// strayTries is how often the kubelet is killed until it dies at the right moment: most times once is enough.
const strayTries = 5

// TestStray kills the kubelet of the target in the middle of a restore, as a run of TestChaos did (seed 1305): containerd then calls the
// container exited and restores it all the same, and nobody but the agent would ever stop it.
func TestStray(t *testing.T) {
	// Enough memory for a restore to take a while.
	s := newShakenScene(t, "stray", "-memory=256")
	pod := s.settle()
	for try := range strayTries {
		killed := s.strays()
		target := s.otherNode(pod)
		dead := s.killDuringRestore(target)
		before := s.wait(t.Context(), "main", recorder.Reached(1))
		s.drain(pod)
		if err := <-dead; err != nil {
			t.Fatalf("killing the kubelet of %s: %v", target.Name(), err)
		}
		pod = s.settle()
		s.checkOneCopy(len(before))
		if n := s.strays() - killed; n > 0 {
			t.Logf("try %d: %.0f stray killed", try+1, n)
			return
		}
		t.Logf("try %d: the kubelet died at another moment", try+1)
	}
	t.Errorf("no stray in %d tries", strayTries)
}

// killDuringRestore kills the node's kubelet as soon as CRIU is seen at work there. The result comes when that is done.
func (s *scene) killDuringRestore(node *cluster.Node) <-chan error {
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(s.t.Context(), drainTimeout)
		defer cancel()
		_, err := node.Exec(ctx, "sh", "-c", `until pgrep -x criu >/dev/null; do sleep 0.005; done; pkill -KILL -x kubelet`)
		done <- err
	}()
	return done
}

// strays is how many strays the agents of the scene's nodes have killed.
func (s *scene) strays() (total float64) {
	s.t.Helper()
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	for _, name := range s.nodes.names {
		s.until(ctx, func() error {
			agent, err := agentPod(ctx, name)
			if err != nil {
				return err
			}
			n, err := testbed.Metric(ctx, *agent, "cryopod_agent_strays_total", "")
			if err == nil {
				total += n
			}
			return err
		})
	}
	return total
}

// maxStarts is how often a process may begin anew after a restore that failed: by the kubelet itself, and once more as the pod gets its base image for
// good (docs/limits.md).
const maxStarts = 2

// checkOneCopy fails the test when the steps after the first ones show two processes at a time: one that goes on where another one has begun breaks the count.
func (s *scene) checkOneCopy(from int) {
	s.t.Helper()
	ctx, cancel := s.within(moveTimeout)
	defer cancel()
	now := time.Now()
	all := s.wait(ctx, "main", func(all []recorder.Entry) bool { return all[len(all)-1].Time.After(now) })
	starts := 0
	for i := from; i < len(all); i++ {
		// A step is told of again by a process that was frozen before it was answered.
		if step, last := all[i].Step, all[i-1].Step; step == last+1 || step == last {
			continue
		}
		starts++
		if starts > maxStarts || all[i].Step != 1 {
			s.t.Errorf("%s: step %d came after step %d, start %d; want no more than %d, each from step 1",
				all[i].Time.Format(time.StampMilli), all[i].Step, all[i-1].Step, starts, maxStarts)
		}
	}
}
