// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/metrics"
)

const (
	// withdrawal is how long the agent gets to delete the images of an attempt that failed or was released, and the API server's
	// caches to tell everybody that a checkpoint is over.
	withdrawal = time.Minute

	// campaign is how long after its deadline a checkpoint that is over counts when its pod is evicted again (package admission): without
	// it the pod would be frozen once more for the same eviction.
	campaign = 2 * time.Minute

	// backOff is how many failures in a row make the schedule of a pod pause for longer (package schedule): without them it would begin
	// anew at once.
	backOff = 4
)

// Removal is something to delete.
type Removal struct {
	// Checkpoint is whose images are deleted from the registry.
	Checkpoint *v1alpha1.PodCheckpoint
	// Object is whether the PodCheckpoint itself is deleted as well, after its images.
	Object bool
	// Rule is why.
	Rule metrics.RetentionRule
}

// Plan is what to do about the PodCheckpoints of a namespace.
type Plan struct {
	// Removals are in the order of the checkpoints' ends, those that have been over for longest first.
	Removals []Removal
	// After is when to look again; 0 is when something changes.
	After time.Duration
}

// Decide says which of a namespace's PodCheckpoints go, and whose images. Only those in a final phase ever do: one that is under way, is Ready,
// or is Claimed is needed, however old it is and however large, and it is for package expiry to end it. Lives tells whether the pod that a
// checkpoint saves still does; it is asked of scheduled ones only.
func Decide(all []v1alpha1.PodCheckpoint, lives func(*v1alpha1.PodCheckpoint) bool, policy Policy, now time.Time) Plan {
	d := decision{policy: policy, now: now, rules: map[*v1alpha1.PodCheckpoint]Removal{}, waits: map[*v1alpha1.PodCheckpoint]time.Duration{}}
	for i := range all {
		pc := &all[i]
		d.bytes += heldBytes(pc)
		if pc.Status.Phase.Final() && pc.DeletionTimestamp.IsZero() {
			d.over = append(d.over, pc)
		}
	}
	slices.SortFunc(d.over, func(a, b *v1alpha1.PodCheckpoint) int {
		return cmp.Or(ended(a).Compare(ended(b)), strings.Compare(a.Name, b.Name))
	})
	d.telling = d.tellSchedules(all, lives)
	d.byAge()
	d.byCount()
	d.byUse()
	d.byBytes()
	plan := Plan{}
	for _, pc := range d.over {
		r, goes := d.rules[pc]
		if goes {
			plan.Removals = append(plan.Removals, r)
		}
		if wait, ok := d.waits[pc]; ok && !r.Object && (plan.After == 0 || wait < plan.After) {
			plan.After = wait
		}
	}
	return plan
}

type decision struct {
	policy Policy
	now    time.Time
	// over are the candidates, those that have been over for longest first.
	over []*v1alpha1.PodCheckpoint
	// bytes are those of all images of the namespace that stay.
	bytes int64
	rules map[*v1alpha1.PodCheckpoint]Removal
	// telling are those that tell when the next checkpoint of a pod is due.
	telling map[*v1alpha1.PodCheckpoint]bool
	// waits are until the next time that a rule may hold.
	waits map[*v1alpha1.PodCheckpoint]time.Duration
}

// due tells whether that time has come for the checkpoint; else it is looked again then.
func (d *decision) due(pc *v1alpha1.PodCheckpoint, when time.Time) bool {
	rest := when.Sub(d.now)
	if wait, ok := d.waits[pc]; rest > 0 && (!ok || rest < wait) {
		d.waits[pc] = rest
	}
	return rest <= 0
}

func (d *decision) remove(pc *v1alpha1.PodCheckpoint, object bool, rule metrics.RetentionRule) {
	d.rules[pc] = Removal{Checkpoint: pc, Object: object, Rule: rule}
	d.bytes -= heldBytes(pc)
}

func (d *decision) stays(pc *v1alpha1.PodCheckpoint) bool {
	_, goes := d.rules[pc]
	return !goes
}

// tellSchedules finds the scheduled attempts that failed since a pod that lives was last saved, the last few of them.
func (d *decision) tellSchedules(all []v1alpha1.PodCheckpoint, lives func(*v1alpha1.PodCheckpoint) bool) map[*v1alpha1.PodCheckpoint]bool {
	saved := map[types.UID]time.Time{}
	for i := range all {
		if at, ok := all[i].Status.Entered(v1alpha1.PhaseReady); ok && !all[i].Status.Phase.Final() && at.After(saved[all[i].Spec.PodUID]) {
			saved[all[i].Spec.PodUID] = at
		}
	}
	telling, failures := map[*v1alpha1.PodCheckpoint]bool{}, map[types.UID]int{}
	for _, pc := range slices.Backward(d.over) {
		uid := pc.Spec.PodUID
		if pc.Spec.Reason != v1alpha1.ReasonSchedule || failures[uid] == backOff || !ended(pc).After(saved[uid]) || !lives(pc) {
			continue
		}
		failures[uid]++
		telling[pc] = true
	}
	return telling
}

func (d *decision) byAge() {
	for _, pc := range d.over {
		when := ended(pc).Add(d.policy.Age)
		if s := settled(pc); s.After(when) {
			when = s
		}
		if !d.telling[pc] && d.due(pc, when) {
			d.remove(pc, true, metrics.RuleAge)
		}
	}
}

// byCount counts for each owner from the youngest on.
func (d *decision) byCount() {
	if d.policy.Count == 0 {
		return
	}
	kept := map[string]int{}
	for _, pc := range slices.Backward(d.over) {
		if !d.stays(pc) || d.telling[pc] {
			continue
		}
		owner := ownerOf(pc)
		if kept[owner]++; kept[owner] > d.policy.Count && d.due(pc, settled(pc)) {
			d.remove(pc, true, metrics.RuleCount)
		}
	}
}

func (d *decision) byUse() {
	if d.policy.KeepImages {
		return
	}
	for _, pc := range d.over {
		if d.stays(pc) && HasImages(pc) && d.due(pc, ended(pc).Add(withdrawal)) {
			d.remove(pc, false, metrics.RuleOver)
		}
	}
}

func (d *decision) byBytes() {
	if d.policy.Bytes == 0 {
		return
	}
	for _, pc := range d.over {
		if d.bytes <= d.policy.Bytes {
			return
		}
		if d.stays(pc) && heldBytes(pc) > 0 {
			d.remove(pc, false, metrics.RuleBytes)
		}
	}
}

// HasImages tells whether the registry may have images of the checkpoint.
func HasImages(pc *v1alpha1.PodCheckpoint) bool {
	if meta.IsStatusConditionTrue(pc.Status.Conditions, v1alpha1.ConditionImagesRemoved) {
		return false
	}
	for i := range pc.Status.Containers {
		if pc.Status.Containers[i].Image != "" || pc.Status.Containers[i].ImageTag != "" {
			return true
		}
	}
	_, exported := pc.Status.Entered(v1alpha1.PhaseExporting)
	return exported && len(pc.Status.Containers) > 0
}

// heldBytes is how large the checkpoint's images in the registry are, as far as it is known.
func heldBytes(pc *v1alpha1.PodCheckpoint) int64 {
	if !HasImages(pc) {
		return 0
	}
	var sum int64
	for i := range pc.Status.Containers {
		sum += max(pc.Status.Containers[i].PushedBytes, 0)
	}
	return sum
}

// ended is when the last phase was entered.
func ended(pc *v1alpha1.PodCheckpoint) time.Time {
	if n := len(pc.Status.Timings); n > 0 {
		return pc.Status.Timings[n-1].Time.Time
	}
	return pc.CreationTimestamp.Time
}

// settled is from when on nobody decides by a checkpoint that is over any more.
func settled(pc *v1alpha1.PodCheckpoint) time.Time {
	deadline := pc.CreationTimestamp.Add(v1alpha1.DefaultDeadline)
	if pc.Spec.Deadline != nil {
		deadline = pc.Spec.Deadline.Time
	}
	if end := ended(pc); end.After(deadline) {
		deadline = end
	}
	return deadline.Add(campaign)
}

// ownerOf tells the checkpoints of one owner from others'. A pod without one stands for itself.
func ownerOf(pc *v1alpha1.PodCheckpoint) string {
	if pc.Status.Owner != nil && pc.Status.Owner.UID != "" {
		return string(pc.Status.Owner.UID)
	}
	return cmp.Or(pc.Labels[v1alpha1.LabelOwnerUID], "pod "+string(pc.Spec.PodUID))
}
