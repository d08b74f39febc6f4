// SPDX-License-Identifier: Apache-2.0

package residue

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Facts are what was found, to be judged.
type Facts struct {
	// Now is when they were gathered. What was on nodes and in the registry was looked at first, so that whatever it belongs to is below.
	Now time.Time
	// Nodes are those that run.
	Nodes []Node
	// Pods, PodCheckpoints, Profiles (their names), Members (names of all nodes) and Leases (names, of Cryopod's namespace) are the API
	// server's.
	Pods           []corev1.Pod
	PodCheckpoints []v1alpha1.PodCheckpoint
	Profiles       []string
	Members        []string
	Leases         []string
	// Tags are the registry's.
	Tags []Tag
}

// Node is what there is on a node.
type Node struct {
	Name string
	// Archives are files in the kubelet's folder of archives, State those in the agent's.
	Archives, State []File
	// Ledger are the entries of the agent's ledger.
	Ledger []fence.Entry
	// Tasks are containers that have a process, Containers the IDs of all.
	Tasks      []Task
	Containers []string
	// Images are names of images, and Leases of what keeps content without an image.
	Images []Image
	Leases []Lease
	// Mounts are the mount points.
	Mounts []string
}

// File is a file by its name in its folder.
type File struct {
	Name    string
	Changed time.Time
}

// Task is a container with a process.
type Task struct {
	ID, PodUID, Namespace, Pod, Container string
	// Paused is whether it stands still.
	Paused bool
}

// Image is a name in a node's image store.
type Image struct {
	Name string
	// Checkpoint is whether it stands for a checkpoint: the memory of processes.
	Checkpoint bool
	Created    time.Time
}

// Lease keeps content of a node from being collected.
type Lease struct {
	ID      string
	Created time.Time
	// Expires is whether it ends by itself.
	Expires bool
}

// Tag is an image in the registry.
type Tag struct {
	Namespace, Tag string
	// Created is when its checkpoint was made; zero when the image does not tell.
	Created time.Time
}
