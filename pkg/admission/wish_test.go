// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/termination"
)

// TestEvictionBlocks has a drain evict a pod again and again that would rather stay than lose its memory.
func TestEvictionBlocks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		start, h := time.Now(), w.evictions()
		fail := func(pc *v1alpha1.PodCheckpoint) {
			pc.Status.Enter(v1alpha1.PhaseFailed, "criu: unsupported socket", time.Now())
		}
		answer := w.held(t.Context(), h)
		w.change(first, fail)
		got := <-answer
		for _, words := range []string{"Eviction triggered evacuation", "could not be saved", "criu: unsupported socket", "it goes by " + start.Add(2*time.Minute).UTC().Format(time.RFC3339)} {
			if got.Allowed || !strings.Contains(got.Result.Message, words) {
				t.Errorf("answer = %+v, want 429 with %q", got.Result, words)
			}
		}
		time.Sleep(4 * time.Second)
		if got := w.evictWith(t.Context(), h, eviction(), false); got.Allowed || len(w.checkpoints()) != 1 {
			t.Errorf("after 4s: %+v and %d PodCheckpoints, want 429 and one", got.Result, len(w.checkpoints()))
		}
		time.Sleep(time.Second)
		again := w.held(t.Context(), h)
		if n := len(w.checkpoints()); n != 2 {
			t.Fatalf("after 5s: %d PodCheckpoints, want a second", n)
		}
		w.change(match.Name(running(), 2), fail)
		<-again
		time.Sleep(time.Until(start.Add(2 * time.Minute)))
		if got := w.evictWith(t.Context(), h, eviction(), false); !got.Allowed || len(got.Warnings) != 1 || len(w.checkpoints()) != 2 {
			t.Errorf("at the deadline: %+v, want allowed as it came with a warning", got)
		}
	}, running(annotate(v1alpha1.AnnotationOnFailure, v1alpha1.OnFailureBlock)), canCheckpoint())
}

func TestEvictionOfAPodThatIsNotSavedForIt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		got := w.evict(t.Context(), eviction(), false)
		if !got.Allowed || len(got.Patches) > 0 || len(got.Warnings) > 0 || len(w.checkpoints()) > 0 || len(w.events.all()) > 0 {
			t.Errorf("answer = %+v with events %q, want allowed as it came", got, w.events.all())
		}
		if w.count("get") != 1 {
			t.Errorf("calls %q, want one that reads the pod", w.calls)
		}
	}, running(annotate(v1alpha1.AnnotationOn, "termination,delete")), canCheckpoint())
}

// TestEvictionWithinTheNodesTime has nodes whose end is announced by a taint, or by their agent.
func TestEvictionWithinTheNodesTime(t *testing.T) {
	for name, tc := range map[string]struct {
		notice *termination.Notice
		agent  *v1alpha1.NodeNotice
		left   time.Duration
	}{
		"nobody announces anything": {left: 2 * time.Minute},
		"a taint":                   {notice: &termination.Notice{Cause: "spot"}, left: 37 * time.Second},
		"the node waits":            {notice: &termination.Notice{Cause: "karpenter", Voluntary: true}, left: 2 * time.Minute},
		"the agent":                 {agent: &v1alpha1.NodeNotice{Cause: v1alpha1.NoticeShutdown}, left: 25 * time.Second},
		"both":                      {notice: &termination.Notice{Cause: "spot"}, agent: &v1alpha1.NodeNotice{Cause: v1alpha1.NoticeShutdown}, left: 25 * time.Second},
		"the agent, of this pod":    {agent: &v1alpha1.NodeNotice{Cause: v1alpha1.NoticeMemoryPressure, Pods: []types.UID{"p0", "p1"}}, left: 25 * time.Second},
		"the agent, of another pod": {agent: &v1alpha1.NodeNotice{Cause: v1alpha1.NoticeMemoryPressure, Pods: []types.UID{"p0"}}, left: 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				node, profile := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{}}}, canCheckpoint()
				if n := tc.notice; n != nil {
					n.Since, n.Deadline = time.Now(), time.Now().Add(40*time.Second)
					node.Annotations[v1alpha1.AnnotationNotice] = n.Encode()
				}
				if n := tc.agent; n != nil {
					n.Since, n.Deadline = metav1.NowMicro(), metav1.NewMicroTime(time.Now().Add(25*time.Second))
					profile.Status.Notice = n
				}
				for _, err := range []error{w.api.Create(t.Context(), node), w.api.Create(t.Context(), profile)} {
					if err != nil {
						t.Fatal(err)
					}
				}
				answer := w.held(t.Context(), w.evictions())
				if left := time.Until(w.checkpoints()[0].Spec.Deadline.Time); left != tc.left {
					t.Errorf("to be saved within %s, want %s", left, tc.left)
				}
				w.change(first, phaseTo(v1alpha1.PhaseReady, ""))
				<-answer
				synctest.Wait()
			}, running())
		})
	}
}
