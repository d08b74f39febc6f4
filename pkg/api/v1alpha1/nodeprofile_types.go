// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// RestoreMethod is one way to restore on a node, and whether the node's agent has seen it work.
type RestoreMethod struct {
	// Name is the method's name (RestoreMethodImage).
	// +kubebuilder:validation:Enum=image;runtime;process;pod
	Name string `json:"name"`
	// Verified is true when the agent checkpointed and restored a process of its own on this node by this method, with the
	// runtime's present version and configuration.
	Verified bool `json:"verified"`
	// Message tells what the self-test found: why not, or how long it took.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
	// Time is when the self-test ended.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
}

// NoticeCause is what an agent sees coming.
// +kubebuilder:validation:Enum=Shutdown;MemoryPressure
type NoticeCause string

// The causes of a NodeNotice.
const (
	// NoticeShutdown is the machine's shutdown, announced by systemd-logind.
	NoticeShutdown NoticeCause = "Shutdown"
	// NoticeMemoryPressure is that the node's memory runs out: soon the kubelet kills pods.
	NoticeMemoryPressure NoticeCause = "MemoryPressure"
)

// NodeNotice announces that pods of the node are about to be killed in a way that passes no admission.
type NodeNotice struct {
	// Cause is what is coming.
	Cause NoticeCause `json:"cause"`
	// Since is when the agent saw it.
	Since metav1.MicroTime `json:"since"`
	// Deadline is when the pods are to be gone by.
	Deadline metav1.MicroTime `json:"deadline"`
	// Pods are the UIDs of the pods that are meant, in the order in which they should go; empty: all of the node.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	// +optional
	Pods []types.UID `json:"pods,omitempty"`
	// Message is one sentence for people.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// NodeProfileStatus is what the agent found on its node.
type NodeProfileStatus struct {
	// Arch is the CPU architecture as Go names it.
	// +optional
	Arch string `json:"arch,omitempty"`
	// CPUFeatures are the CPU's features as /proc/cpuinfo names them, sorted.
	// +listType=set
	// +optional
	CPUFeatures []string `json:"cpuFeatures,omitempty"`
	// Kernel is the kernel's release.
	// +optional
	Kernel string `json:"kernel,omitempty"`
	// CgroupVersion is 1 or 2.
	// +optional
	CgroupVersion int32 `json:"cgroupVersion,omitempty"`
	// Runtime is the container runtime and its version (containerd://2.3.7).
	// +optional
	Runtime string `json:"runtime,omitempty"`
	// CRIUVersion is the version of the node's CRIU.
	// +optional
	CRIUVersion string `json:"criuVersion,omitempty"`
	// CRIUConfig tells who wrote the node's CRIU options: Managed (the agent), Administrator (left alone), or Missing.
	// +kubebuilder:validation:Enum=Managed;Administrator;Missing
	// +optional
	CRIUConfig string `json:"criuConfig,omitempty"`
	// RestoreMethods are the ways to restore that the agent knows, each with its self-test's result.
	// +listType=map
	// +listMapKey=name
	// +optional
	RestoreMethods []RestoreMethod `json:"restoreMethods,omitempty"`
	// ImageIndex are the images on the node with their names, layers and the layers' sizes, as package imageindex packs them: checkpoint images
	// as well, from their pull until their containers run.
	// +kubebuilder:validation:MaxLength=131072
	// +optional
	ImageIndex []byte `json:"imageIndex,omitempty"`
	// PushBytesPerSecond is the measured bandwidth of pushes to the registry; 0 when none was measured yet.
	// +optional
	PushBytesPerSecond int64 `json:"pushBytesPerSecond,omitempty"`
	// DumpBytesPerSecond is the measured rate at which memory becomes archives on the node's disk; 0 when none was measured yet.
	// +optional
	DumpBytesPerSecond int64 `json:"dumpBytesPerSecond,omitempty"`
	// PullBytesPerSecond is the measured bandwidth of pulls; 0 when none was measured yet.
	// +optional
	PullBytesPerSecond int64 `json:"pullBytesPerSecond,omitempty"`
	// Notice is what the agent sees coming on the node that no taint tells of; nil when nothing is. It is removed when that is over.
	// +optional
	Notice *NodeNotice `json:"notice,omitempty"`
	// Conditions tell in kubectl's form whether the node can save (CanCheckpoint) and restore (CanRestore).
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// The types of a NodeProfile's conditions.
const (
	// ConditionCanCheckpoint is True while the agent can save pods of its node.
	ConditionCanCheckpoint = "CanCheckpoint"
	// ConditionCanRestore is True while at least one restore method is verified.
	ConditionCanRestore = "CanRestore"
)

// NodeProfile tells what a node can do for checkpoints. It is named as its node, owned by it, and its agent is its only writer;
// so it has no status subresource, and every change is one write.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=npro,categories=cryopod
// +kubebuilder:printcolumn:name="Runtime",type=string,JSONPath=`.status.runtime`
// +kubebuilder:printcolumn:name="CRIU",type=string,JSONPath=`.status.criuVersion`
// +kubebuilder:printcolumn:name="CanCheckpoint",type=string,JSONPath=`.status.conditions[?(@.type=="CanCheckpoint")].status`
// +kubebuilder:printcolumn:name="CanRestore",type=string,JSONPath=`.status.conditions[?(@.type=="CanRestore")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="CanRestore")].message`,priority=1
type NodeProfile struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// +optional
	Status NodeProfileStatus `json:"status,omitempty"`
}

// Method returns the restore method of that name, and whether the profile has it.
func (p *NodeProfile) Method(name string) (RestoreMethod, bool) {
	for _, m := range p.Status.RestoreMethods {
		if m.Name == name {
			return m, true
		}
	}
	return RestoreMethod{}, false
}

// NodeProfileList is a list of NodeProfiles.
// +kubebuilder:object:root=true
type NodeProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeProfile `json:"items"`
}
