// SPDX-License-Identifier: Apache-2.0

package retention

import (
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// ends lets PodCheckpoints through that come to an end, or, at the start, have one, and those that change after it: an attempt to
// delete one that changed meanwhile has failed. Ready ones are let through as their images count among the namespace's bytes.
func ends() predicate.Funcs {
	matters := func(obj any) bool {
		pc, ok := obj.(*v1alpha1.PodCheckpoint)
		return ok && (pc.Status.Phase.Final() || pc.Status.Phase == v1alpha1.PhaseReady)
	}
	return predicate.Funcs{
		CreateFunc: func(e ctrlevent.CreateEvent) bool { return matters(e.Object) },
		UpdateFunc: func(e ctrlevent.UpdateEvent) bool { return matters(e.ObjectNew) },
		DeleteFunc: func(ctrlevent.DeleteEvent) bool { return false },
	}
}

// scheduledGoes lets pods through that had a schedule and are gone: from then on it matters no more what became of it.
func scheduledGoes() predicate.Funcs {
	return predicate.Funcs{
		CreateFunc: func(ctrlevent.CreateEvent) bool { return false },
		UpdateFunc: func(ctrlevent.UpdateEvent) bool { return false },
		DeleteFunc: func(e ctrlevent.DeleteEvent) bool {
			return e.Object.GetAnnotations()[v1alpha1.AnnotationInterval] != ""
		},
	}
}

// overrides lets namespaces through whose own policy changes.
func overrides() predicate.Funcs {
	return predicate.Funcs{
		CreateFunc: func(ctrlevent.CreateEvent) bool { return false },
		UpdateFunc: func(e ctrlevent.UpdateEvent) bool {
			for _, key := range []string{
				v1alpha1.AnnotationRetentionCount, v1alpha1.AnnotationRetentionAge, v1alpha1.AnnotationRetentionBytes,
			} {
				before, had := e.ObjectOld.GetAnnotations()[key]
				if after, has := e.ObjectNew.GetAnnotations()[key]; has != had || after != before {
					return true
				}
			}
			return false
		},
		DeleteFunc: func(ctrlevent.DeleteEvent) bool { return false },
	}
}
