// SPDX-License-Identifier: Apache-2.0

package metrics

import "time"

var (
	claims = counter(SubsystemClaim, "claims_total",
		"Attempts of admitted pods to take a checkpoint over, and what became of the claims.", "outcome")
	restores = counter(SubsystemRestore, "restores_total",
		"Pods admitted to start from a checkpoint, by how it ended.", "method", "outcome")
	restoreSeconds = histogram(SubsystemRestore, "duration_seconds",
		"From the claim to every container running from its checkpoint.", SecondsBuckets(), "method")
	fallbacks = counter(SubsystemRestore, "fallbacks_total",
		"Pods that were sent back to their base images, by the class of the reason.", "class")
)

// ClaimOutcome says what became of a claim.
type ClaimOutcome string

// The outcomes of claims. Won, Lost, Mismatched and Denied are counted at admission, the others by the controller.
const (
	// ClaimWon: the checkpoint went to the pod that asked.
	ClaimWon ClaimOutcome = "won"
	// ClaimLost: another write (a thaw, another pod) was faster.
	ClaimLost ClaimOutcome = "lost"
	// ClaimMismatched: the owner has a checkpoint, but not one for this pod (slot, template or phase).
	ClaimMismatched ClaimOutcome = "mismatched"
	// ClaimDenied: there is a checkpoint, but the user that makes the pod may not claim any.
	ClaimDenied ClaimOutcome = "denied"
	// ClaimBound: the pod exists.
	ClaimBound ClaimOutcome = "bound"
	// ClaimReturned: no pod came; the checkpoint may be claimed again.
	ClaimReturned ClaimOutcome = "returned"
)

// CountClaim counts a claim's outcome.
func CountClaim(outcome ClaimOutcome) {
	claims.WithLabelValues(string(outcome)).Inc()
}

// RestoreOutcome says how a restore ended.
type RestoreOutcome string

// The outcomes of restores.
const (
	// RestoreDone: every container runs from its checkpoint.
	RestoreDone RestoreOutcome = "restored"
	// RestoreFellBack: the pod started cold from its base images.
	RestoreFellBack RestoreOutcome = "fell_back"
	// RestoreLost: the pod was deleted before it ran.
	RestoreLost RestoreOutcome = "lost"
)

// CountRestore counts how a restore by that method (v1alpha1.RestoreMethodImage) ended.
func CountRestore(method string, outcome RestoreOutcome) {
	restores.WithLabelValues(method, string(outcome)).Inc()
}

// ObserveRestore records the time from the claim to every container running from its checkpoint.
func ObserveRestore(method string, d time.Duration) {
	restoreSeconds.WithLabelValues(method).Observe(seconds(d))
}

// FallbackClass says what kind of failure sent a pod back to its base images.
type FallbackClass string

// The classes of fall-backs.
const (
	// FallbackPull: the checkpoint image could not be pulled.
	FallbackPull FallbackClass = "pull"
	// FallbackCreate: the container runtime refused to create the container, CRIU's failures included.
	FallbackCreate FallbackClass = "create"
	// FallbackStart: the container was created and could not be started.
	FallbackStart FallbackClass = "start"
	// FallbackExit: the container ended before the restore was complete.
	FallbackExit FallbackClass = "exit"
	// FallbackCrash: the container ended after its restore; it starts cold so that it does not rewind.
	FallbackCrash FallbackClass = "crash"
	// FallbackClaim: the pod's claim is not, or no longer, the checkpoint's.
	FallbackClaim FallbackClass = "claim"
	// FallbackPlacement: the scheduler gave up to find a node that can restore the pod.
	FallbackPlacement FallbackClass = "placement"
)

// CountFallback counts a pod that was sent back to its base images.
func CountFallback(class FallbackClass) {
	fallbacks.WithLabelValues(string(class)).Inc()
}
