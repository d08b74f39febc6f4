// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// The paths that the MutatingWebhookConfiguration names.
const (
	PathPod      = "/mutate-pod"
	PathEviction = "/mutate-eviction"
	PathDelete   = "/mutate-delete"
)

// recorderName is the reportingController of the events.
const recorderName = "cryopod-webhook"

// The Lease that the scheduler's replicas elect their leader with.
const (
	schedulerNamespace = "cryopod-system"
	schedulerLease     = "cryopod-scheduler"
)

// SetupWithManager registers the handlers on the manager's webhook server; they answer on every replica. Where
// Options.SchedulerReady is nil, the scheduler's Lease tells. The manager's client has to read PodCheckpoints from its cache.
func SetupWithManager(ctx context.Context, mgr manager.Manager, o Options) error {
	changes := &Waiter{}
	informer, err := mgr.GetCache().GetInformer(ctx, &v1alpha1.PodCheckpoint{})
	if err != nil {
		return fmt.Errorf("watching PodCheckpoints for held requests: %w", err)
	}
	if _, err := informer.AddEventHandler(changes); err != nil {
		return fmt.Errorf("watching PodCheckpoints for held requests: %w", err)
	}
	// Looked up in the cache when a pod may be lost with its node, on every replica.
	for _, obj := range []client.Object{&corev1.Node{}, &corev1.Pod{}} {
		if _, err := mgr.GetCache().GetInformer(ctx, obj); err != nil {
			return fmt.Errorf("watching %T: %w", obj, err)
		}
	}
	if o.SchedulerReady == nil {
		key := client.ObjectKey{Namespace: schedulerNamespace, Name: schedulerLease}
		o.SchedulerReady = NewSchedulerLease(mgr.GetAPIReader(), clock.RealClock{}, key, "").Ready
	}
	d := Dependencies{
		Live: mgr.GetAPIReader(), Cached: mgr.GetClient(), Writer: mgr.GetClient(),
		Events: mgr.GetEventRecorder(recorderName), Access: Reviews{Writer: mgr.GetClient()}, Clock: clock.RealClock{}, Changes: changes,
	}
	server := mgr.GetWebhookServer()
	server.Register(PathPod, &admission.Webhook{Handler: NewPodCreate(d, o, uuid.NewString)})
	keeper := NewKeeper(d, o)
	server.Register(PathEviction, &admission.Webhook{Handler: answered{NewEviction(keeper)}})
	server.Register(PathDelete, &admission.Webhook{Handler: NewDelete(keeper)})
	return nil
}
