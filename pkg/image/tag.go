// SPDX-License-Identifier: Apache-2.0

package image

import (
	"regexp"
	"strings"
)

// The parts of a tag: the name of a PodCheckpoint, and of a container. A container's name has no dot, so the last one parts them.
var (
	checkpointName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$`)
	containerName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
)

// Repository is where the checkpoint images of a namespace go: <prefix>/<namespace>. The prefix is registry/path.
func Repository(prefix, namespace string) string { return prefix + "/" + namespace }

// Tag is the name of a container's checkpoint image: <prefix>/<namespace>:<checkpoint>.<container>.
func Tag(prefix, namespace, checkpoint, container string) string {
	return Repository(prefix, namespace) + ":" + checkpoint + "." + container
}

// ParseTag takes the names of the PodCheckpoint and the container out of what follows the colon of a name that Tag made. It tells
// whether it has that form.
func ParseTag(tag string) (checkpoint, container string, ok bool) {
	dot := strings.LastIndexByte(tag, '.')
	if dot < 0 {
		return "", "", false
	}
	checkpoint, container = tag[:dot], tag[dot+1:]
	return checkpoint, container, checkpointName.MatchString(checkpoint) && containerName.MatchString(container)
}
