// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// What users write on a pod (in its template) or a namespace.
const (
	// AnnotationEnabled opts a pod in when its value is "true". Set by users; read by the admission webhooks at CREATE and at
	// eviction.
	AnnotationEnabled = Group + "/enabled"

	// AnnotationDeadline bounds how long an eviction of the pod may be put off, as a Go duration ("90s"). Set by users; read
	// at eviction. Default DefaultDeadline; past it the pod goes without a checkpoint.
	AnnotationDeadline = Group + "/deadline"

	// AnnotationMaxFreeze bounds how long the pod's processes may stand still before the checkpoint is durable, as a Go
	// duration. Set by users; read by the webhook when it makes the PodCheckpoint. Default DefaultMaxFreeze.
	AnnotationMaxFreeze = Group + "/max-freeze"

	// AnnotationInject, "false", turns off everything that the webhook changes in an opted-in pod to make its processes
	// checkpointable (environment, seccomp profile). Set by users; read at CREATE.
	AnnotationInject = Group + "/inject"

	// AnnotationOn names what a pod is saved for, as a list of Triggers separated by commas ("eviction,delete"). Set by users;
	// read when the pod is about to go. Default DefaultOn. What is not in the list goes as it would without Cryopod.
	AnnotationOn = Group + "/on"

	// AnnotationInterval has the pod saved again and again while it runs, as a Go duration of at least MinInterval ("10m"). Set
	// by users; read by the controllers. Default: not at all.
	AnnotationInterval = Group + "/interval"

	// AnnotationOnFailure says what becomes of an eviction when the checkpoint failed: OnFailureEvict (the default), the pod goes
	// without; OnFailureBlock, it is tried again until the deadline. Set by users; read at eviction.
	AnnotationOnFailure = Group + "/on-failure"

	// AnnotationValue is what saving the pod is worth beside others of its node, a whole number from 1 to MaxValue. Set by users; read when
	// there is not time enough to save all. Default DefaultValue; the pod's priority counts beside it.
	AnnotationValue = Group + "/value"

	// AnnotationRetentionCount, AnnotationRetentionAge and AnnotationRetentionBytes, on a namespace, override the cluster's
	// retention: how many checkpoints that are over are kept for each owner, for how long (Go duration), and how many bytes of images
	// (Kubernetes quantity) the namespace may have. Set by administrators; read by the retention controller.
	AnnotationRetentionCount = Group + "/retention-count"
	AnnotationRetentionAge   = Group + "/retention-age"
	AnnotationRetentionBytes = Group + "/retention-bytes"

	// LabelExclude, "true" on a namespace, keeps Cryopod's webhooks away from all of its pods. Set by cluster
	// administrators; read by the API server (namespaceSelector).
	LabelExclude = Group + "/exclude"
)

// What Cryopod writes on pods. The webhook removes any of these that a user wrote, and the ValidatingAdmissionPolicy cryopod-pods lets
// nobody else change the annotations later: they cannot be forged.
const (
	// LabelEnabled mirrors AnnotationEnabled, so that watches can select opted-in pods. Set by the webhook at CREATE.
	LabelEnabled = Group + "/enabled"

	// AnnotationAnswered, on an Eviction, says that a replica of the webhook has answered about it. Set by the webhook; read by the API
	// server, which asks another replica where it lacks; it lives as long as the request.
	AnnotationAnswered = Group + "/answered"

	// AnnotationRestoreFrom names the PodCheckpoint that a pod starts from. Set by the webhook when it claims one;
	// read by the controllers, the scheduler and the agent; never changed after admission.
	AnnotationRestoreFrom = Group + "/restore-from"

	// LabelRestoring, "true", marks a pod that was admitted with AnnotationRestoreFrom, so that watches can select it.
	// Set by the webhook; never changed after admission.
	LabelRestoring = Group + "/restoring"

	// AnnotationClaim is the claim's ID (status.claim.id of the PodCheckpoint). A pod whose ID is not that of the
	// PodCheckpoint must not run from it. Set by the webhook; read by the controller that binds the claim.
	AnnotationClaim = Group + "/claim"

	// AnnotationTemplateHash is match.TemplateHash of the pod as its owner made it, before any change of ours. Set by the
	// webhook at CREATE; read when a PodCheckpoint is made and when one is claimed.
	AnnotationTemplateHash = Group + "/template-hash"

	// AnnotationCreator is the user that made the pod, as the API server authenticated it. Set by the webhook at CREATE; read by the
	// agent when it saves the pod, and by the controllers: a claim belongs to a pod of the user that made it.
	AnnotationCreator = Group + "/creator"

	// AnnotationBaseImages is a JSON object, container name to the image that its owner wrote, of each container whose image
	// was swapped. Set by the webhook with AnnotationRestoreFrom; read for the fall-back and for a second checkpoint.
	AnnotationBaseImages = Group + "/base-images"

	// AnnotationFellBack tells why the pod was started cold from its base images after its restore failed. Set by the
	// controller together with the images, once; read by people and by the controller.
	AnnotationFellBack = Group + "/fell-back"

	// PodConditionRestorePlaced is a condition of a pod that was admitted to start from a checkpoint: False, with ReasonNotPlaced and a
	// message, once the scheduler has given up to find a node that can restore it. Set by the scheduler, once; read by the
	// controller, which then sends the pod back to its base images before any node gets it.
	PodConditionRestorePlaced = Group + "/restore-placed"

	// ReasonNotPlaced is that condition's reason.
	ReasonNotPlaced = "NotPlaced"
)

// What Cryopod writes on nodes.
const (
	// AnnotationNotice is the end that is announced for a node: a JSON object of package termination. Set by the node webhook in
	// the very request that brings a termination taint, or by the evacuation controller where no webhook answered; removed when
	// the taint goes. Read by the evacuation controller and the scheduler.
	AnnotationNotice = Group + "/notice"
)

// What Cryopod writes on its own requests.
const (
	// AnnotationTold, on an Eviction that the controllers ask for, is that they tell people themselves why a pod goes without a checkpoint. Set
	// by the controllers; read by the webhook, from them only.
	AnnotationTold = Group + "/told"
)

// What Cryopod writes on its own objects.
const (
	// LabelOwnerUID is the UID of the controller that owned the checkpointed pod, for the look-up at CREATE of its
	// replacement. Set by the webhook when it makes the PodCheckpoint.
	LabelOwnerUID = Group + "/owner-uid"

	// LabelPodUID is the UID of the checkpointed pod. Set by the webhook when it makes the PodCheckpoint.
	LabelPodUID = Group + "/pod-uid"
)

// What Cryopod shares with the descheduler (its feature gate EvictionsInBackground).
const (
	// AnnotationEvictOnly has the descheduler ask once for the pod's eviction, and take a 429 that says so for a promise. Set by users;
	// read at eviction and by the controllers. Its value does not matter.
	AnnotationEvictOnly = "descheduler.alpha.kubernetes.io/request-evict-only"

	// AnnotationEvictionInProgress tells the descheduler that the promise is being kept. Set by the controllers on a pod with
	// AnnotationEvictOnly while it is being saved; removed when it stays after all, so that it may be asked for again.
	AnnotationEvictionInProgress = "descheduler.alpha.kubernetes.io/eviction-in-progress"
)

const (
	// EvictionResponder is Cryopod's name among the eviction responders of a pod (KEP-4563), and the key of the label that the Evictions
	// of such pods have.
	EvictionResponder = Group + "/responder"

	// EvictionResponderPriority puts Cryopod before the responder of the pod's own controller, which has 10000: that can only
	// make another pod, which starts cold.
	EvictionResponderPriority = 20000
)

// SchedulerName is the scheduler profile with the plugin CheckpointLocality.
const SchedulerName = "cryopod-scheduler"

// RestoreMethodImage is the restore method in which the pod's image is swapped for its checkpoint image and the
// container runtime restores on create.
const RestoreMethodImage = "image"

// VerbClaim is the verb on podcheckpoints that lets a user's pods start from checkpoints, beside Kubernetes' own workload controllers.
const VerbClaim = "claim"
