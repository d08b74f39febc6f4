// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Reason says why a pod is checkpointed.
// +kubebuilder:validation:Enum=Eviction;Termination;Deletion;Preemption;Migration;Schedule;Manual
type Reason string

// The reasons for a checkpoint.
const (
	ReasonEviction    Reason = "Eviction"
	ReasonTermination Reason = "Termination"
	ReasonDeletion    Reason = "Deletion"
	ReasonPreemption  Reason = "Preemption"
	ReasonMigration   Reason = "Migration"
	ReasonSchedule    Reason = "Schedule"
	ReasonManual      Reason = "Manual"
)

// Removal says what Cryopod itself does to the checkpointed pod once the attempt is over.
// +kubebuilder:validation:Enum=None;Evict;Delete
type Removal string

// The removals. With all of them the pod that goes after Ready gets a grace period of 1 s, and its UID is a precondition.
const (
	// RemovalNone leaves it to whoever asked: an eviction that is held, or comes again.
	RemovalNone Removal = "None"
	// RemovalEvict evicts the pod, when it is Ready or has Failed, by the Eviction API: PodDisruptionBudgets are respected.
	RemovalEvict Removal = "Evict"
	// RemovalDelete deletes the pod: it was being deleted anyway, or its node ends.
	RemovalDelete Removal = "Delete"
)

// Phase is where a checkpoint stands in its life. An empty phase means Pending.
// +kubebuilder:validation:Enum=Pending;Freezing;Dumping;Exporting;Ready;Claimed;Restored;Failed;Released;Expired
type Phase string

// The phases, in order. The webhook makes the object (Pending) and writes Claimed; the agent of the source's node writes
// Freezing to Ready, Failed and Released; the controllers write Restored, Expired, and Failed for a failed restore.
const (
	PhasePending   Phase = "Pending"
	PhaseFreezing  Phase = "Freezing"
	PhaseDumping   Phase = "Dumping"
	PhaseExporting Phase = "Exporting"
	PhaseReady     Phase = "Ready"
	PhaseClaimed   Phase = "Claimed"
	PhaseRestored  Phase = "Restored"
	PhaseFailed    Phase = "Failed"
	PhaseReleased  Phase = "Released"
	PhaseExpired   Phase = "Expired"
)

// Final reports whether no further change of phase follows p.
func (p Phase) Final() bool {
	switch p {
	case PhaseRestored, PhaseFailed, PhaseReleased, PhaseExpired:
		return true
	default:
		return false
	}
}

// The types of a PodCheckpoint's conditions. Each one's message tells people what happened; none is needed to tell the phase.
const (
	// ConditionReady is True once all images are durable in the registry, False with the reason when that failed.
	ConditionReady = "Ready"
	// ConditionSourceLost is True once it is certain that the checkpointed pod went with its node, and so runs nowhere any more. Only
	// then may a checkpoint without a fence be claimed. False once the pod is known to have ended otherwise.
	ConditionSourceLost = "SourceLost"
	// ConditionRestored is True once every container runs from its checkpoint, False with the reason when the pod fell back to
	// a cold start.
	ConditionRestored = "Restored"
	// ConditionRemovalAsked is True once somebody has deleted the pod while it was being saved for one who was to come again: from then on
	// the PodCheckpoint counts as if its spec.removal were Delete. Set by the webhook; read by the controllers.
	ConditionRemovalAsked = "RemovalAsked"
	// ConditionCalledOff is True once the pod is to stay after all. Set by the controllers; the agent then releases the checkpoint and
	// lets the pod go on, however far it is, unless it is claimed.
	ConditionCalledOff = "CalledOff"
	// ConditionImagesRemoved is True once the images of a checkpoint that is over were deleted from the registry. Its reason is the
	// rule of retention that they fell under.
	ConditionImagesRemoved = "ImagesRemoved"
)

// The reasons of ConditionReady that programs go by; all others are for people.
const (
	// ReasonMaxFreeze: the pod would have stood still, or did stand still, for longer than MaxFreezeSeconds. The checkpoint is
	// Released; another attempt would end the same.
	ReasonMaxFreeze = "MaxFreeze"
	// ReasonCalledOff: the pod was to stay after all. The checkpoint is Released.
	ReasonCalledOff = "CalledOff"
	// ReasonNoTime: the planner found that the checkpoint can't be durable by the deadline. It is Failed without a freeze.
	ReasonNoTime = "NoTime"
)

// PodCheckpointSpec says which pod to save, and how. It never changes.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec is immutable; make a new PodCheckpoint"
// +kubebuilder:validation:XValidation:rule="size(self.podUID) >= 1 && size(self.podUID) <= 64",message="podUID must have 1 to 64 characters"
type PodCheckpointSpec struct {
	// PodName is the pod's name, in the PodCheckpoint's own namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PodName string `json:"podName"`

	// PodUID is the UID of the very pod that is meant: a later one of the same name is never touched.
	PodUID types.UID `json:"podUID"`

	// NodeName is the node that the pod runs on; its agent acts.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	NodeName string `json:"nodeName"`

	// Reason is what made the checkpoint necessary.
	Reason Reason `json:"reason"`

	// Deadline is when the checkpoint is of no more use: by then the pod goes with or without it.
	// +optional
	Deadline *metav1.Time `json:"deadline,omitempty"`

	// Fence keeps the pod frozen after its checkpoint is Ready, until the pod is deleted or FenceSeconds have passed.
	// +optional
	Fence bool `json:"fence,omitempty"`

	// FenceSeconds is how long the pod stays frozen after Ready while nobody deletes it.
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	// +optional
	FenceSeconds int32 `json:"fenceSeconds,omitempty"`

	// MaxFreezeSeconds is how long the pod may stand still before the checkpoint is Ready (without a fence: before it is dumped); past it,
	// the attempt is Released and the pod is thawed.
	// +kubebuilder:default=60
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	// +optional
	MaxFreezeSeconds int32 `json:"maxFreezeSeconds,omitempty"`

	// Removal is what Cryopod does with the pod when the checkpoint is Ready, or has Failed.
	// +kubebuilder:default=None
	// +optional
	Removal Removal `json:"removal,omitempty"`

	// Value is what saving the pod is worth beside others of its node, when there is not time enough for all: AnnotationValue. 0
	// means DefaultValue.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Value int64 `json:"value,omitempty"`

	// Priority is the pod's spec.priority. A pod of higher priority is worth more at the same value.
	// +optional
	Priority int32 `json:"priority,omitempty"`

	// Containers are the names of the containers to save, sidecars (restartable init containers) included. Empty: all that
	// run.
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +optional
	Containers []string `json:"containers,omitempty"`
}

// ContainerCheckpoint is one container's part of a checkpoint.
type ContainerCheckpoint struct {
	// Name is the container's name.
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name"`

	// BaseImage is the image that the pod's owner wrote for the container.
	// +kubebuilder:validation:MaxLength=1024
	BaseImage string `json:"baseImage"`

	// BaseImageDigest is the base image with its digest (name@sha256:…) as the runtime resolved it: what the target needs.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	BaseImageDigest string `json:"baseImageDigest,omitempty"`

	// Image is the checkpoint image, by digest (name@sha256:…).
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Image string `json:"image,omitempty"`

	// ImageTag is the same image by a tag of its own (name:tag); the replacement pod names it so.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	ImageTag string `json:"imageTag,omitempty"`

	// Bytes is the size of the kubelet's checkpoint archive.
	// +optional
	Bytes int64 `json:"bytes,omitempty"`

	// PushedBytes is what was sent to the registry: compressed layer, configuration and manifest.
	// +optional
	PushedBytes int64 `json:"pushedBytes,omitempty"`
}

// Owner is the controller of the checkpointed pod, and the place that the pod has in it.
type Owner struct {
	// UID is the controller's UID.
	UID types.UID `json:"uid"`
	// APIVersion is the controller's API version.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	APIVersion string `json:"apiVersion,omitempty"`
	// Kind is the controller's kind.
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind"`
	// Name is the controller's name.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Slot tells pods of one owner apart where they are not interchangeable: the pod's name for a StatefulSet, the
	// completion index for an indexed Job; else empty.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Slot string `json:"slot,omitempty"`
}

// Requirements is what a node has to offer for the checkpoint to be restored there.
type Requirements struct {
	// Arch is the CPU architecture as Go names it.
	// +optional
	Arch string `json:"arch,omitempty"`
	// CPUFeatures are the CPU features that the source's node offers: an upper bound of what the process uses.
	// +listType=set
	// +optional
	CPUFeatures []string `json:"cpuFeatures,omitempty"`
	// Kernel is the source's kernel release.
	// +optional
	Kernel string `json:"kernel,omitempty"`
	// CgroupVersion is 1 or 2.
	// +optional
	CgroupVersion int32 `json:"cgroupVersion,omitempty"`
	// Runtime is the container runtime and its version, as the node reports it (containerd://2.3.7).
	// +optional
	Runtime string `json:"runtime,omitempty"`
	// CRIUVersion is the version of CRIU that made the dump.
	// +optional
	CRIUVersion string `json:"criuVersion,omitempty"`
}

// Claim is a replacement pod's hold on a checkpoint. At most one ever exists: it is written by a compare-and-swap against Ready.
type Claim struct {
	// ID is drawn at the replacement's admission and stands on it too (AnnotationClaim).
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id"`
	// PodName is the replacement's name; empty until it is known (generateName).
	// +optional
	PodName string `json:"podName,omitempty"`
	// PodUID is the replacement's UID; empty until the pod exists.
	// +optional
	PodUID types.UID `json:"podUID,omitempty"`
	// User is who made the replacement; empty for a claim of an older version.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	User string `json:"user,omitempty"`
	// NodeName is where the replacement was bound to; empty until it is.
	// +optional
	NodeName string `json:"nodeName,omitempty"`
	// Time is when the claim was made.
	Time metav1.MicroTime `json:"time"`
}

// PhaseTiming is when a phase was entered.
type PhaseTiming struct {
	// Phase is the phase entered.
	Phase Phase `json:"phase"`
	// Time is when.
	Time metav1.MicroTime `json:"time"`
}

// PodCheckpointStatus is what has been observed and done.
type PodCheckpointStatus struct {
	// Phase is where the checkpoint stands.
	// +optional
	Phase Phase `json:"phase,omitempty"`

	// Message is one sentence for people on how the phase came about.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`

	// Containers are the parts of the checkpoint.
	// +listType=map
	// +listMapKey=name
	// +optional
	Containers []ContainerCheckpoint `json:"containers,omitempty"`

	// Owner is the controller whose next fitting pod takes the checkpoint over.
	// +optional
	Owner *Owner `json:"owner,omitempty"`

	// Creator is the user that made the checkpointed pod: only a pod of the same user is a replacement. Empty where nobody noted it.
	// +kubebuilder:validation:MaxLength=512
	// +optional
	Creator string `json:"creator,omitempty"`

	// TemplateHash is the checkpointed pod's template hash: only a pod with the same one is a replacement.
	// +optional
	TemplateHash string `json:"templateHash,omitempty"`

	// Requirements is what the target needs.
	// +optional
	Requirements *Requirements `json:"requirements,omitempty"`

	// FrozenUntil is until when the pod of a Ready checkpoint stays frozen at the longest, where that is less than FenceSeconds may
	// be: past it, a liveness probe of the pod would have the kubelet restart it. Nil where no probe bounds it.
	// +optional
	FrozenUntil *metav1.MicroTime `json:"frozenUntil,omitempty"`

	// Claim is the replacement's hold; nil until Claimed.
	// +optional
	Claim *Claim `json:"claim,omitempty"`

	// Timings are the phases entered so far, in order.
	// +listType=atomic
	// +optional
	Timings []PhaseTiming `json:"timings,omitempty"`

	// Conditions tell the story in the form that kubectl wait understands.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// PodCheckpoint is one attempt to save one pod, all of its containers as one consistent cut.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=pckpt;pcp,categories=cryopod
// +kubebuilder:selectablefield:JSONPath=`.spec.nodeName`
// +kubebuilder:selectablefield:JSONPath=`.spec.podName`
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Pod",type=string,JSONPath=`.spec.podName`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.nodeName`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.spec.reason`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Replacement",type=string,JSONPath=`.status.claim.podName`
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.status.claim.nodeName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63",message="the name must have at most 63 characters"
type PodCheckpoint struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec PodCheckpointSpec `json:"spec"`
	// +optional
	Status PodCheckpointStatus `json:"status,omitempty"`
}

// PodCheckpointList is a list of PodCheckpoints.
// +kubebuilder:object:root=true
type PodCheckpointList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PodCheckpoint `json:"items"`
}
