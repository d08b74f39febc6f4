// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
	planner "github.com/cryopod/cryopod/pkg/plan"
)

// refusedDisk is the cause of what does not fit on the node's disk; the others are the planner's.
const refusedDisk planner.Why = 0

// refusedError means that a pod is not saved because of what the planner or the disk says, by numbers and not by a failure.
type refusedError struct {
	cause planner.Why
	text  string
}

func (e *refusedError) Error() string { return e.text }

// refusal says by how much a pod misses what it would need.
func refusal(s planner.Shortfall) *refusedError {
	needs, has := round(s.Needs), round(s.Has)
	var text string
	switch s.Why {
	case planner.TooLong:
		text = fmt.Sprintf("the pod would stand still for %s, and may for %s; nothing was frozen", needs, has)
	case planner.GaveWay:
		text = fmt.Sprintf("there is no time to save it beside the pods that are worth more: with them it needs %s, %s are left", needs, has)
	default:
		text = fmt.Sprintf("there is no time to save it: it needs %s, %s are left", needs, has)
	}
	return &refusedError{cause: s.Why, text: text}
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// reason writes into the condition what programs go by.
func (e *refusedError) reason(s *v1alpha1.PodCheckpointStatus) {
	c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
	if c == nil {
		return
	}
	switch e.cause {
	case refusedDisk:
		c.Reason = "NoDisk"
	case planner.TooLong:
		c.Reason = v1alpha1.ReasonMaxFreeze
	default:
		c.Reason = v1alpha1.ReasonNoTime
	}
}

func (e *refusedError) count() {
	switch e.cause {
	case refusedDisk:
		metrics.CountRefused(metrics.RefusedDisk)
	case planner.TooLong:
		metrics.CountRefused(metrics.RefusedFreeze)
	case planner.GaveWay:
		metrics.CountRefused(metrics.RefusedGaveWay)
	default:
		metrics.CountRefused(metrics.RefusedTime)
	}
}
