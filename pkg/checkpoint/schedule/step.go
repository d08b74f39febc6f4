// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/termination"
	"github.com/cryopod/cryopod/pkg/wish"
)

const (
	// minPatience and maxPatience bound how long one attempt may take: there is another one an interval later.
	minPatience = 2 * time.Minute
	maxPatience = 10 * time.Minute

	// maxBackOff bounds how often the pause after failures is doubled.
	maxBackOff = 3

	// reasonGaveWay is the reason of the condition Ready of an attempt that was ended for one that the pod's end waits for.
	reasonGaveWay = "GaveWay"
)

// Case is what the next checkpoint of a pod depends on.
type Case struct {
	// Pod is the pod.
	Pod *corev1.Pod
	// Checkpoints are the PodCheckpoints of the pod's UID, in any order.
	Checkpoints []v1alpha1.PodCheckpoint
	// Past is the Past of the Step before, zero when there is none that is known: PodCheckpoints that are over are deleted in time.
	Past Past
	// Node and Profile are those of the pod's node, nil when there is none.
	Node    *corev1.Node
	Profile *v1alpha1.NodeProfile
	// Now is the time.
	Now time.Time
}

// Past is what became of a pod's schedule so far.
type Past struct {
	// Attempt is the number of the last attempt that is over, and End when it was.
	Attempt int
	End     time.Time
	// Failures is how many attempts in a row have failed since the last one that did not, and Why how the last one did.
	Failures int
	Why      string
}

// Step is what is to be done about a pod's schedule. Its zero value is to wait until something changes.
type Step struct {
	// Attempt is that of the PodCheckpoint to make; 0 makes none.
	Attempt int
	// Deadline is that PodCheckpoint's.
	Deadline time.Time
	// GiveWay is an attempt to end, because another one, of a pod that is about to go, waits for it. Nil ends none.
	GiveWay *v1alpha1.PodCheckpoint
	// Never says why the pod is not saved on a schedule at all, Trouble why it has not been of late. The pod's owner is to be told
	// once. Empty where all is well.
	Never, Trouble string
	// Past is to be given to the next Case of the pod.
	Past Past
	// After is when to look again; 0 is when something changes.
	After time.Duration
}

// Next is what is to be done about the pod's schedule now.
func Next(c Case) Step {
	interval, wished := wish.Interval(c.Pod)
	if !wished || !inject.Enabled(c.Pod) || c.Pod.DeletionTimestamp != nil || c.Pod.Status.Phase != corev1.PodRunning {
		return Step{}
	}
	if metav1.GetControllerOfNoCopy(c.Pod) == nil {
		return Step{Never: "the pod has no controller that would replace it"}
	}
	if volume := match.Outliving(c.Pod); volume != "" {
		return Step{Never: fmt.Sprintf("its volume %q outlives it and would be newer than the checkpoint", volume)}
	}
	if step, busy := underWay(c); busy {
		return step
	}
	step := Step{Past: pastOf(c)}
	due, runs := dueAt(c.Pod, step.Past, interval)
	if !runs {
		return step
	}
	if step.Past.Failures > 0 {
		step.Trouble = step.Past.Why
	}
	switch rest := due.Sub(c.Now); {
	case rest > 0:
		step.After = rest
	case ends(c):
		// The checkpoint that comes now keeps the pod frozen.
		step.After = untilOver(c)
	case unable(c) != "":
		step.Trouble = unable(c)
	default:
		step.Attempt = max(lastAttempt(c.Checkpoints), step.Past.Attempt) + 1
		step.Deadline = c.Now.Add(min(max(interval, minPatience), maxPatience))
	}
	return step
}

// underWay tells whether a checkpoint of the pod is being made, or the pod stands still and is about to go.
func underWay(c Case) (step Step, busy bool) {
	var ours *v1alpha1.PodCheckpoint
	fenced := false
	for i := range c.Checkpoints {
		pc := &c.Checkpoints[i]
		switch phase := pc.Status.Phase; {
		case phase.Final():
		case pc.Spec.Fence:
			busy, fenced = true, true
		case phase != v1alpha1.PhaseReady && phase != v1alpha1.PhaseClaimed:
			busy = true
			if pc.Spec.Reason == v1alpha1.ReasonSchedule {
				ours = pc
			}
		}
	}
	if fenced {
		step.GiveWay = ours
	}
	return step, busy
}

// pastOf is what became of the pod's schedule, none of whose attempts is under way.
func pastOf(c Case) Past {
	made := slices.DeleteFunc(slices.Clone(c.Checkpoints), func(pc v1alpha1.PodCheckpoint) bool {
		return pc.Spec.Reason != v1alpha1.ReasonSchedule || gaveWay(&pc)
	})
	slices.SortFunc(made, func(a, b v1alpha1.PodCheckpoint) int {
		return cmp.Compare(match.Attempt(a.Name), match.Attempt(b.Name))
	})
	past := c.Past
	for i := range made {
		pc := &made[i]
		n := match.Attempt(pc.Name)
		if n <= past.Attempt {
			continue
		}
		past.Attempt, past.End = n, endOf(pc)
		if _, saved := pc.Status.Entered(v1alpha1.PhaseReady); saved {
			past.Failures, past.Why = 0, ""
		} else {
			past.Failures++
			past.Why = pc.Status.Message
		}
	}
	return past
}

// dueAt is when the next checkpoint is due; false while no container of the pod runs.
//
// The first one is due in the second half of the first interval, at a point that the pod's UID decides: pods that were made together are
// saved one after the other, and none later than its interval says.
func dueAt(pod *corev1.Pod, past Past, interval time.Duration) (due time.Time, runs bool) {
	since, runs := runningSince(pod)
	if !runs {
		return time.Time{}, false
	}
	if past.Attempt == 0 {
		half := interval / 2
		return since.Add(half + time.Duration(share(pod)*float64(half))), true
	}
	return past.End.Add(interval << min(past.Failures, maxBackOff)), true
}

// share is a number from 0 to 1 that depends on the pod's UID only.
func share(pod *corev1.Pod) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(pod.UID))
	// The last bytes of a short text hardly reach the upper bits.
	return float64(h.Sum64()*0x9e3779b97f4a7c15) / math.MaxUint64
}

// endOf is when an attempt was over: Ready, or failed.
func endOf(pc *v1alpha1.PodCheckpoint) time.Time {
	if at, ok := pc.Status.Entered(v1alpha1.PhaseReady); ok {
		return at
	}
	if n := len(pc.Status.Timings); n > 0 {
		return pc.Status.Timings[n-1].Time.Time
	}
	return pc.CreationTimestamp.Time
}

func gaveWay(pc *v1alpha1.PodCheckpoint) bool {
	c := meta.FindStatusCondition(pc.Status.Conditions, v1alpha1.ConditionReady)
	return c != nil && c.Reason == reasonGaveWay
}

func runningSince(pod *corev1.Pod) (since time.Time, runs bool) {
	for i := range pod.Status.ContainerStatuses {
		r := pod.Status.ContainerStatuses[i].State.Running
		if r == nil {
			continue
		}
		runs = true
		if r.StartedAt.After(since) {
			since = r.StartedAt.Time
		}
	}
	return since, runs
}

// ends tells whether the node's end is announced.
func ends(c Case) bool {
	return untilOver(c) > 0 || c.Profile != nil && c.Profile.Status.Notice != nil
}

// untilOver is how long the notice on the node still runs, 0 when there is none. A node that outlives its notice is saved from as before.
func untilOver(c Case) time.Duration {
	if c.Node == nil {
		return 0
	}
	notice, running := termination.Running(c.Node, c.Now)
	if !running {
		return 0
	}
	return notice.Deadline.Sub(c.Now)
}

// unable says why the pod's node can't save it, empty when it can.
func unable(c Case) string {
	if c.Profile == nil {
		return fmt.Sprintf("the node %q has no Cryopod agent", c.Pod.Spec.NodeName)
	}
	can := meta.FindStatusCondition(c.Profile.Status.Conditions, v1alpha1.ConditionCanCheckpoint)
	switch {
	case can == nil:
		return fmt.Sprintf("the agent of the node %q has not told yet whether it can", c.Pod.Spec.NodeName)
	case can.Status != metav1.ConditionTrue:
		return fmt.Sprintf("the node %q can't: %s", c.Pod.Spec.NodeName, can.Message)
	}
	return ""
}

func lastAttempt(pcs []v1alpha1.PodCheckpoint) int {
	last := 0
	for i := range pcs {
		last = max(last, match.Attempt(pcs[i].Name))
	}
	return last
}
