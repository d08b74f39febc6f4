// SPDX-License-Identifier: Apache-2.0

// Package checkpoint puts together the controllers of PodCheckpoints. They run on one replica at a time; each write is a
// compare-and-swap, so a second one that believes to lead does no harm.
package checkpoint

import (
	"context"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cryopod/cryopod/pkg/checkpoint/claim"
	"github.com/cryopod/cryopod/pkg/checkpoint/descheduler"
	"github.com/cryopod/cryopod/pkg/checkpoint/evacuation"
	"github.com/cryopod/cryopod/pkg/checkpoint/event"
	"github.com/cryopod/cryopod/pkg/checkpoint/evictionrequest"
	"github.com/cryopod/cryopod/pkg/checkpoint/expiry"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/checkpoint/removal"
	"github.com/cryopod/cryopod/pkg/checkpoint/restore"
	"github.com/cryopod/cryopod/pkg/checkpoint/retention"
	"github.com/cryopod/cryopod/pkg/checkpoint/schedule"
	"github.com/cryopod/cryopod/pkg/checkpoint/standby"
	"github.com/cryopod/cryopod/pkg/checkpoint/stranded"
	"github.com/cryopod/cryopod/pkg/termination"
)

const (
	// DefaultUnboundAfter is longer than the 60 s that an API server lets a request last unless told otherwise
	// (--request-timeout): a pod whose CREATE claimed a checkpoint may come to be until then.
	DefaultUnboundAfter = 75 * time.Second

	// DefaultReadyFor is how long a checkpoint waits for a pod to claim it. A controller replaces its pod within seconds, or minutes where
	// a quota or a webhook is in its way; who starts from a memory much older than that is not expected.
	DefaultReadyFor = 10 * time.Minute
)

// Options are the bounds that the controllers act at. The ages have to be positive.
type Options struct {
	// UnboundAfter is how old a claim without a pod gets before its checkpoint is given back.
	UnboundAfter time.Duration
	// ReadyFor is how long a checkpoint waits for a pod to claim it.
	ReadyFor time.Duration
	// EvictionRequests is whether Cryopod responds to them: the API server has to serve evictionrequest.Served.
	EvictionRequests bool
	// Taints are those that announce a node's end.
	Taints termination.List
	// SchedulerReady tells whether Cryopod's scheduler runs. Pods that wait for it while it does not are replaced; nil: never.
	SchedulerReady func(context.Context) bool
	// Retention bounds what is kept of checkpoints that are over.
	Retention retention.Options
}

// Register adds the indexes and the controllers to the manager. Its cache needs all PodCheckpoints, namespaces, nodes and NodeProfiles, and
// the pods with v1alpha1.LabelEnabled.
func Register(ctx context.Context, mgr ctrl.Manager, events event.Recorder, o Options) error {
	if err := index.Add(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	c, live, clk := mgr.GetClient(), mgr.GetAPIReader(), clock.RealClock{}
	remover := removal.Remover{Client: c, Live: live, Events: events, Clock: clk}
	controllers := []interface{ Register(ctrl.Manager) error }{
		&claim.Reconciler{Client: c, Live: live, Events: events, Clock: clk, UnboundAfter: o.UnboundAfter},
		&restore.Reconciler{Client: c, Live: live, Events: events, Clock: clk},
		&expiry.Reconciler{Client: c, Live: live, Events: events, Clock: clk,
			Limits: expiry.Limits{ReadyFor: o.ReadyFor}},
		&removal.Reconciler{Remover: remover, Taints: o.Taints},
		&evacuation.Reconciler{Remover: remover, Taints: o.Taints},
		&schedule.Reconciler{Client: c, Events: events, Clock: clk},
		&standby.Reconciler{Client: c, Live: live, Events: events, Clock: clk},
		&descheduler.Reconciler{Client: c},
		&retention.Parts{Events: events, Clock: clk, Options: o.Retention},
	}
	if o.SchedulerReady != nil {
		controllers = append(controllers, &stranded.Reconciler{Client: c, Remover: remover, Ready: o.SchedulerReady, Clock: clk})
	}
	if o.EvictionRequests {
		controllers = append(controllers, &evictionrequest.Reconciler{Client: c, Live: live, Events: events, Clock: clk})
	}
	for _, one := range controllers {
		if err := one.Register(mgr); err != nil {
			return err
		}
	}
	return nil
}
