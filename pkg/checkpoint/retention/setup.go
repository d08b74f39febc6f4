// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/image"
)

// deployment is the webhook's, by its manifests: what is to be said about the registry is said there.
const deployment = "cryopod-webhook"

// Options say what is kept, and where the images are.
type Options struct {
	// Policy counts in namespaces that have none of their own.
	Policy Policy
	// SweepEvery is how often to search the registry for images that no PodCheckpoint names.
	SweepEvery time.Duration
	// Registry is where the agents push: registry/path. Empty means that no images can be deleted.
	Registry string
	// RegistryConfig is a directory with a docker configuration file that has the registry's credentials; empty means none.
	RegistryConfig string
	// RegistryInsecure allows plain HTTP to any registry.
	RegistryInsecure bool
	// Namespace is where this program runs.
	Namespace string
}

// Parts are the controller and the Sweeper.
type Parts struct {
	// Events gets the events.
	Events event.Recorder
	// Clock tells the time.
	Clock clock.Clock
	// Options say what is kept.
	Options Options
}

// Register adds them to the manager, whose cache has all PodCheckpoints and namespaces. Without a registry, it says so.
func (p *Parts) Register(mgr ctrl.Manager) error {
	o := p.Options
	reconciler := &Reconciler{Client: mgr.GetClient(), Events: p.Events, Clock: p.Clock, Policy: o.Policy}
	if o.Registry == "" {
		mgr.GetLogger().Info("No --registry: images are deleted by the agents only, those of attempts that failed or were released; " +
			"for all others the registry needs a retention policy of its own")
		return reconciler.Register(mgr)
	}
	pusher := &image.Pusher{Insecure: o.RegistryInsecure}
	if o.RegistryConfig != "" {
		pusher.Keychain = image.DockerConfig(o.RegistryConfig)
	}
	reconciler.Images = &Images{
		Registry: pusher, Prefix: o.Registry, Events: p.Events, Clock: p.Clock,
		Self: &corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: o.Namespace, Name: deployment},
	}
	if err := reconciler.Register(mgr); err != nil {
		return err
	}
	sweeper := &Sweeper{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Images: reconciler.Images, Clock: p.Clock, Every: o.SweepEvery}
	if err := mgr.Add(sweeper); err != nil {
		return fmt.Errorf("adding the search for images without PodCheckpoints: %w", err)
	}
	return nil
}
