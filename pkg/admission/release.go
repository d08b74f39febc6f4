// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"gomodules.xyz/jsonpatch/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// releaseGrace is the grace period, in seconds, of a pod that is saved. Its processes are frozen and can't make use of more. 0 would
// drop the pod from the API before the kubelet has killed it.
const releaseGrace = 1

// releasePatch turns an eviction, of either API version, into one of the very pod that was saved. What the client asked for
// beyond that stays.
func releasePatch(d *metav1.DeleteOptions, uid types.UID) []jsonpatch.Operation {
	if d == nil {
		return []jsonpatch.Operation{jsonpatch.NewOperation("add", "/deleteOptions", map[string]any{
			"gracePeriodSeconds": releaseGrace, "preconditions": map[string]any{"uid": uid},
		})}
	}
	precondition := jsonpatch.NewOperation("add", "/deleteOptions/preconditions", map[string]any{"uid": uid})
	if d.Preconditions != nil {
		precondition = jsonpatch.NewOperation("add", "/deleteOptions/preconditions/uid", uid)
	}
	return []jsonpatch.Operation{
		jsonpatch.NewOperation("add", "/deleteOptions/gracePeriodSeconds", releaseGrace), precondition,
	}
}
