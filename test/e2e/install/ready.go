// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const pollInterval = 200 * time.Millisecond

// waitReady returns when all parts run and every node's agent has verified that it can save and restore.
func (i Installer) waitReady(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		missing := i.Ready(ctx)
		if missing == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for Cryopod to be ready: %w: %w", ctx.Err(), missing)
		case <-ticker.C:
		}
	}
}

// Ready says what is not ready yet; nil: every part runs, and every node's agent has verified that it can save and restore.
func (i Installer) Ready(ctx context.Context) error {
	return errors.Join(i.deployment(ctx, "cryopod-webhook"), i.deployment(ctx, "cryopod-scheduler"), i.agents(ctx), i.profiles(ctx))
}

func (i Installer) deployment(ctx context.Context, name string) error {
	var d appsv1.Deployment
	if err := i.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: name}, &d); err != nil {
		return fmt.Errorf("reading Deployment %q: %w", name, err)
	}
	if d.Status.ObservedGeneration != d.Generation || d.Status.UpdatedReplicas != *d.Spec.Replicas ||
		d.Status.AvailableReplicas != *d.Spec.Replicas || d.Status.Replicas != *d.Spec.Replicas {
		return fmt.Errorf("the Deployment %q has %d of %d replicas available", name, d.Status.AvailableReplicas, *d.Spec.Replicas)
	}
	return nil
}

func (i Installer) agents(ctx context.Context) error {
	const name = "cryopod-agent"
	var d appsv1.DaemonSet
	if err := i.Client.Get(ctx, client.ObjectKey{Namespace: Namespace, Name: name}, &d); err != nil {
		return fmt.Errorf("reading DaemonSet %q: %w", name, err)
	}
	s := d.Status
	if s.ObservedGeneration != d.Generation || s.DesiredNumberScheduled == 0 ||
		s.UpdatedNumberScheduled != s.DesiredNumberScheduled || s.NumberAvailable != s.DesiredNumberScheduled {
		return fmt.Errorf("the DaemonSet %q has %d of %d pods available", name, s.NumberAvailable, s.DesiredNumberScheduled)
	}
	return nil
}

func (i Installer) profiles(ctx context.Context) error {
	var profiles v1alpha1.NodeProfileList
	if err := i.Client.List(ctx, &profiles); err != nil {
		return fmt.Errorf("reading NodeProfiles: %w", err)
	}
	able := map[string]bool{}
	var reasons []string
	for _, p := range profiles.Items {
		able[p.Name] = true
		for _, condition := range []string{v1alpha1.ConditionCanCheckpoint, v1alpha1.ConditionCanRestore} {
			if !meta.IsStatusConditionTrue(p.Status.Conditions, condition) {
				able[p.Name] = false
				reasons = append(reasons, fmt.Sprintf("%s %s: %s", p.Name, condition, message(p, condition)))
			}
		}
	}
	for _, n := range i.Cluster.Nodes() {
		if !able[n.Name()] {
			return fmt.Errorf("node %q can't save and restore yet (%s)", n.Name(), strings.Join(reasons, "; "))
		}
	}
	return nil
}

func message(p v1alpha1.NodeProfile, condition string) string {
	if c := meta.FindStatusCondition(p.Status.Conditions, condition); c != nil {
		return c.Message
	}
	return "not known yet"
}
