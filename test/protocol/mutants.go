// SPDX-License-Identifier: Apache-2.0

package protocol

import "github.com/cryopod/cryopod/test/protocol/world"

// Patch replaces a text of a production file, which has to be there exactly once.
type Patch struct{ File, Old, New string }

// Mutant is a bug that is planted into production code for a test: the patched code asks package seed whether it is on.
type Mutant struct {
	// Name is the bug's, as seed.Plant takes it.
	Name string
	// What is wrong then, for people.
	What string
	// Patches plant it.
	Patches []Patch
	// Scripts are those in which it is looked for, in that order, and Deviations how many it takes at most.
	Scripts    []string
	Deviations int
	// Breaks are the invariants of which one is violated.
	Breaks []world.Invariant
}

const (
	agentAttempt  = "pkg/agent/source/attempt.go"
	agentFence    = "pkg/agent/source/fence.go"
	agentLoop     = "pkg/agent/source/reconciler.go"
	agentStatus   = "pkg/agent/source/status.go"
	webhookClaim  = "pkg/admission/claim.go"
	webhookDecide = "pkg/admission/decide.go"
	matchReplace  = "pkg/match/replace.go"
	matchLost     = "pkg/match/lost.go"
	claimStep     = "pkg/checkpoint/claim/step.go"
	restoreJudge  = "pkg/checkpoint/restore/judge.go"
	removalStep   = "pkg/checkpoint/removal/step.go"
)

// Mutants are the bugs that are planted, one at a time.
func Mutants() []Mutant {
	return append(append(agentMutants(), moreAgentMutants()...), otherMutants()...)
}

func agentMutants() []Mutant {
	return []Mutant{
		{
			Name: "thaw-before-the-write", What: "the agent thaws, and then writes Released",
			Scripts: []string{"late-drain"}, Deviations: 1, Breaks: []world.Invariant{world.OneLiveCopy},
			Patches: []Patch{{agentFence, "\tif err := r.write(ctx, pc, v1alpha1.PhaseReleased, why,",
				"\tif seed.Is(\"thaw-before-the-write\") {\n\t\t_ = fence.ThawAll(ctx, r.Fence, entry.Containers)\n\t}\n" +
					"\tif err := r.write(ctx, pc, v1alpha1.PhaseReleased, why,"}},
		},
		{
			Name: "thaw-after-a-lost-race", What: "the agent thaws although somebody else was first to write",
			Scripts: []string{"late-drain"}, Deviations: 1, Breaks: []world.Invariant{world.OneLiveCopy},
			Patches: []Patch{{agentFence, "apierrors.IsConflict(err) {\n\t\treturn ctrl.Result{RequeueAfter: time.Millisecond}, nil\n\t} else if err != nil {",
				"apierrors.IsConflict(err) && !seed.Is(\"thaw-after-a-lost-race\") {\n\t\treturn ctrl.Result{RequeueAfter: time.Millisecond}, nil\n" +
					"\t} else if err != nil && !seed.Is(\"thaw-after-a-lost-race\") {"}},
		},
		{
			Name: "agent-writes-without-version", What: "the agent's writes name no resourceVersion",
			Scripts: []string{"late-drain"}, Deviations: 1, Breaks: []world.Invariant{world.OneLiveCopy, world.PodRuns},
			Patches: []Patch{{agentStatus, "\tnext := pc.DeepCopy()\n",
				"\tnext := pc.DeepCopy()\n\tif seed.Is(\"agent-writes-without-version\") {\n\t\tnext.ResourceVersion = \"\"\n\t}\n"}},
		},
		{
			Name: "thaws-what-is-claimed", What: "the agent thaws a claimed pod as any other",
			Scripts: []string{"drain"}, Deviations: 1, Breaks: []world.Invariant{world.OneLiveCopy},
			Patches: []Patch{{agentFence, "if pc.Status.Claim != nil || phaseOf(pc) == v1alpha1.PhaseClaimed {",
				"if (pc.Status.Claim != nil || phaseOf(pc) == v1alpha1.PhaseClaimed) && !seed.Is(\"thaws-what-is-claimed\") {"}},
		},
		{
			Name: "thaws-orphans-that-were-deleted", What: "the agent thaws a pod that was deleted when its PodCheckpoint is gone",
			Scripts: []string{"checkpoint-deleted"}, Deviations: 1, Breaks: []world.Invariant{world.OneLiveCopy},
			Patches: []Patch{{agentFence, "\tif alive == nil {\n\t\treturn r.dropWhenGone(ctx, entry, held)",
				"\tif alive == nil && !seed.Is(\"thaws-orphans-that-were-deleted\") {\n\t\treturn r.dropWhenGone(ctx, entry, held)"}},
		},
		{
			Name: "keeps-frozen-what-failed", What: "the agent does not thaw the pod of a failed attempt",
			Scripts: []string{"drain-gives-up"}, Deviations: 1, Breaks: []world.Invariant{world.PodRuns},
			Patches: []Patch{{agentFence, "\t\tcause = metrics.ThawFailed\n",
				"\t\tcause = metrics.ThawFailed\n\t\tif seed.Is(\"keeps-frozen-what-failed\") {\n\t\t\treturn ctrl.Result{}, nil\n\t\t}\n"}},
		},
		{
			Name: "fence-without-end", What: "the fence of a Ready checkpoint never ends",
			Scripts: []string{"drain-gives-up"}, Deviations: 0, Breaks: []world.Invariant{world.PodRuns},
			Patches: []Patch{{agentFence, "frozen && patience > 0 {", "frozen && (patience > 0 || seed.Is(\"fence-without-end\")) {"}},
		},
	}
}

func moreAgentMutants() []Mutant {
	return []Mutant{
		{
			Name: "thaws-after-ready-was-sent", What: "the agent thaws when it could not write Failed, although Ready may have been written",
			Scripts: []string{"drain"}, Deviations: 1, Breaks: []world.Invariant{world.OneLiveCopy},
			Patches: []Patch{{agentAttempt, "errors.Is(err, errLost) || a.readySent:",
				"errors.Is(err, errLost) || a.readySent && !seed.Is(\"thaws-after-ready-was-sent\"):"}},
		},
		{
			Name: "takes-a-push-for-done", What: "an agent that begins anew takes the push of its former life for done",
			Scripts: []string{"drain"}, Deviations: 1, Breaks: []world.Invariant{world.NoPartialImage},
			Patches: []Patch{{agentLoop, "func (r *Reconciler) abandon(ctx context.Context, pc *v1alpha1.PodCheckpoint) (ctrl.Result, error) {\n",
				"func (r *Reconciler) abandon(ctx context.Context, pc *v1alpha1.PodCheckpoint) (ctrl.Result, error) {\n" +
					"\tif seed.Is(\"takes-a-push-for-done\") && phaseOf(pc) == v1alpha1.PhaseExporting {\n" +
					"\t\treturn ctrl.Result{}, r.write(ctx, pc, v1alpha1.PhaseReady, \"\", func(s *v1alpha1.PodCheckpointStatus) {\n" +
					"\t\t\tfor i := range s.Containers {\n" +
					"\t\t\t\ts.Containers[i].ImageTag = \"registry/\" + pc.Namespace + \":\" + pc.Name + \".\" + s.Containers[i].Name\n" +
					"\t\t\t}\n\t\t})\n\t}\n"}},
		},
		{
			Name: "freezes-one-container", What: "the agent freezes the first container only, and does not look whether all stand still",
			Scripts: []string{"two-containers"}, Deviations: 1, Breaks: []world.Invariant{world.NoPartialImage},
			Patches: []Patch{
				{agentAttempt, "\treturn fence.FreezeAll(ctx, a.r.Fence, a.plan.freeze)\n",
					"\tif seed.Is(\"freezes-one-container\") {\n\t\treturn fence.FreezeAll(ctx, a.r.Fence, a.plan.freeze[:1])\n\t}\n" +
						"\treturn fence.FreezeAll(ctx, a.r.Fence, a.plan.freeze)\n"},
				{agentAttempt, "func (a *attempt) stayedFrozen(ctx context.Context) error {\n",
					"func (a *attempt) stayedFrozen(ctx context.Context) error {\n" +
						"\tif seed.Is(\"freezes-one-container\") || seed.Is(\"goes-on-after-the-dump\") {\n\t\treturn nil\n\t}\n"},
			},
		},
		{
			Name: "goes-on-after-the-dump", What: "the agent lets a pod with a fence go on when it is dumped",
			Scripts: []string{"drain"}, Deviations: 1, Breaks: []world.Invariant{world.OneLiveCopy},
			Patches: []Patch{{agentAttempt, "\tif err != nil || a.pc.Spec.Fence {\n",
				"\tif err != nil || a.pc.Spec.Fence && !seed.Is(\"goes-on-after-the-dump\") {\n"}},
		},
	}
}

func otherMutants() []Mutant {
	return []Mutant{
		{
			Name: "claims-without-version", What: "the webhook's claim names no resourceVersion",
			Scripts: []string{"two-pods", "late-drain"}, Deviations: 1, Breaks: []world.Invariant{world.OneLiveCopy},
			Patches: []Patch{{webhookClaim, "\t\terr = h.Writer.Status().Update(ctx, &pc)\n",
				"\t\tif seed.Is(\"claims-without-version\") {\n\t\t\tpc.ResourceVersion = \"\"\n\t\t}\n\t\terr = h.Writer.Status().Update(ctx, &pc)\n"}},
		},
		{
			Name: "claims-of-a-running-source", What: "the webhook does not look whether the source is on its way",
			Scripts: []string{"scale-up"}, Deviations: 0, Breaks: []world.Invariant{world.PodRuns, world.OneLiveCopy},
			Patches: []Patch{{webhookClaim, "\treturn source.UID != pc.Spec.PodUID || source.DeletionTimestamp != nil, nil\n",
				"\treturn source.UID != pc.Spec.PodUID || source.DeletionTimestamp != nil || seed.Is(\"claims-of-a-running-source\"), nil\n"}},
		},
		{
			Name: "claims-what-was-released", What: "a checkpoint that was released may be claimed",
			Scripts: []string{"late-drain"}, Deviations: 1, Breaks: []world.Invariant{world.OneLiveCopy},
			Patches: []Patch{
				{matchReplace, "\tcase pc.Status.Phase != v1alpha1.PhaseReady:\n",
					"\tcase pc.Status.Phase != v1alpha1.PhaseReady && !(seed.Is(\"claims-what-was-released\") && pc.Status.Phase == v1alpha1.PhaseReleased):\n"},
				{webhookClaim, "\tif pc.Status.Phase == v1alpha1.PhaseClaimed || pc.Status.Phase.Final() {\n",
					"\tif pc.Status.Phase == v1alpha1.PhaseClaimed || pc.Status.Phase.Final() && !seed.Is(\"claims-what-was-released\") {\n"},
			},
		},
		{
			Name: "unreachable-is-lost", What: "a pod that is deleted while its node is not heard of counts as lost with it",
			Scripts: []string{"unreachable"}, Deviations: 0, Breaks: []world.Invariant{world.OneLiveCopy},
			Patches: []Patch{{matchLost, "node != nil && OutOfService(node) && !Heard(node):",
				"node != nil && (OutOfService(node) || seed.Is(\"unreachable-is-lost\")) && !Heard(node):"}},
		},
		{
			Name: "a-deadline-that-moves", What: "an eviction's deadline is counted anew from each answer",
			Scripts: []string{"push-fails"}, Deviations: 0, Breaks: []world.Invariant{world.NotHeld},
			Patches: []Patch{{webhookDecide, "\tlimit := c.limit(match.DeadlineOf(cur))\n",
				"\tlimit := c.limit(match.DeadlineOf(cur))\n\tif seed.Is(\"a-deadline-that-moves\") {\n\t\tlimit = c.Now.Add(time.Minute)\n\t}\n"}},
		},
		{
			Name: "claims-that-are-never-given-back", What: "the claim of a pod that never came to be stays",
			Scripts: []string{"refused"}, Deviations: 0, Breaks: []world.Invariant{world.ClaimEnds},
			Patches: []Patch{{claimStep, "rest := claim.Time.Add(unboundAfter).Sub(now); rest > 0 {",
				"rest := claim.Time.Add(unboundAfter).Sub(now); rest > 0 || seed.Is(\"claims-that-are-never-given-back\") {"}},
		},
		{
			Name: "claims-of-pods-that-are-gone", What: "the claim of a pod that is gone before it ran stays",
			Scripts: []string{"replacement-deleted"}, Deviations: 0, Breaks: []world.Invariant{world.ClaimEnds},
			Patches: []Patch{{claimStep, "\tcase claim.PodUID != \"\" && carrier == nil:\n",
				"\tcase claim.PodUID != \"\" && carrier == nil && !seed.Is(\"claims-of-pods-that-are-gone\"):\n"}},
		},
		{
			Name: "never-falls-back", What: "a pod whose restore fails keeps its checkpoint's image",
			Scripts: []string{"restore-fails"}, Deviations: 0, Breaks: []world.Invariant{world.PodRuns, world.ClaimEnds},
			Patches: []Patch{{restoreJudge, "\t\tif c.problem == nil {\n", "\t\tif c.problem == nil || seed.Is(\"never-falls-back\") {\n"}},
		},
		{
			Name: "leaves-what-failed", What: "a pod that Cryopod is to end stays when its attempt failed",
			Scripts: []string{"autoscaler-fails"}, Deviations: 0, Breaks: []world.Invariant{world.PodRuns},
			Patches: []Patch{{removalStep, "\tcase v1alpha1.PhaseFailed:\n",
				"\tcase v1alpha1.PhaseFailed:\n\t\tif seed.Is(\"leaves-what-failed\") {\n\t\t\treturn Step{}\n\t\t}\n"}},
		},
	}
}
