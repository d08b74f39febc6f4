// SPDX-License-Identifier: Apache-2.0

package match

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

const (
	nameDigits  = 10
	namePodPart = 40
)

// Name is the name of the PodCheckpoint of the pod's attempt (1 for the first): the start of the pod's name for people, a hash
// of its UID so that two requests for the same pod meet and two pods of one name do not, and the attempt. It has at most 63
// characters for attempts below 10^10 and, followed by a container's name, is a valid tag of an image.
func Name(pod *corev1.Pod, attempt int) string {
	part := pod.Name
	if len(part) > namePodPart {
		part = part[:namePodPart]
	}
	part = strings.TrimRight(part, "-.")
	sum := sha256.Sum256([]byte(pod.UID))
	return part + "-" + hex.EncodeToString(sum[:])[:nameDigits] + "-" + strconv.Itoa(attempt)
}

// Attempt is the attempt that Name put into the name, 0 for a name that it did not make.
func Attempt(name string) int {
	n, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
	if err != nil || n < 1 {
		return 0
	}
	return n
}
