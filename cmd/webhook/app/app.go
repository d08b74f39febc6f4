// SPDX-License-Identifier: Apache-2.0

// Package app puts the webhook's parts together: the manager with its cache and servers, the certificate, admission, and the
// controllers.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/cryopod/cryopod/certs/selfsigned"
	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/checkpoint"
	"github.com/cryopod/cryopod/pkg/checkpoint/evictionrequest"
)

// name is the Lease that the leader holds, and the reporter of the controllers' events.
const name = "cryopod-webhook"

// shutdown is how long everything gets to end once no request is left. The Deployment's terminationGracePeriodSeconds is longer than the
// time for that and for the requests (Options.ShutdownDelay, maxHold) together.
const shutdown = 15 * time.Second

// filling is how long the cache may take to fill before a controller gives up, and the program with it. In a large cluster whose API server
// is short of breath the two minutes that are usual do not suffice, and to begin anew would be the worst for it.
const filling = 15 * time.Minute

// Run runs the webhook in the cluster that the environment names until ctx is done.
func Run(ctx context.Context, o Options) error {
	ctrl.SetLogger(logger(o))
	klog.SetLogger(ctrl.Log)
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the cluster: %w", err)
	}
	drain := &drainer{delay: o.ShutdownDelay, clock: clock.RealClock{}}
	mgr, err := newManager(ctx, config, o, drain)
	if err != nil {
		return err
	}
	if err := mgr.Start(drain.after(ctx)); err != nil {
		return fmt.Errorf("running the manager: %w", err)
	}
	return nil
}

func logger(o Options) logr.Logger {
	level := slog.LevelInfo
	// Validate has seen that it can be read.
	_ = level.UnmarshalText([]byte(o.LogLevel))
	handlerOptions := &slog.HandlerOptions{Level: level}
	if o.LogFormat == "text" {
		return logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, handlerOptions))
	}
	return logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, handlerOptions))
}

// newManager makes the manager with everything that it runs.
func newManager(ctx context.Context, config *rest.Config, o Options, drain *drainer) (manager.Manager, error) {
	config = rest.CopyConfig(config)
	// No bound on this side: requests that wait here for their turn are waited for by the API server itself, which after 30 s lets the pod go
	// without a checkpoint. Its own priority and fairness bounds what this program may ask.
	config.QPS = -1
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	if o.Checkpoint.EvictionRequests {
		// Before the cache is made, which can't be for a type that the API server does not have.
		o.Checkpoint.EvictionRequests = evictionsServed(config)
		o.Admission.Responder = o.Checkpoint.EvictionRequests
	}
	rotator := &selfsigned.Rotator{}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Cache:                         cacheOptions(o),
		WebhookServer:                 drainedServer{webhook.NewServer(serverOptions(o, rotator)), drain},
		Metrics:                       metricsserver.Options{BindAddress: o.MetricsAddress},
		HealthProbeBindAddress:        o.ProbeAddress,
		Controller:                    ctrlconfig.Controller{CacheSyncTimeout: filling},
		LeaderElection:                o.LeaderElect,
		LeaderElectionID:              name,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       ptr.To(shutdown),
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	if err := addCertificate(mgr, o, rotator); err != nil {
		return nil, err
	}
	o.Admission.Taints, o.Checkpoint.Taints = o.taints(), o.taints()
	o.Admission.SchedulerReady = admission.NewSchedulerLease(mgr.GetClient(), clock.RealClock{}, o.schedulerLease(), o.SchedulerHolder).Ready
	o.Checkpoint.SchedulerReady = o.Admission.SchedulerReady
	if err := addAdmission(ctx, mgr, o); err != nil {
		return nil, err
	}
	o.Checkpoint.Retention.Namespace = o.Namespace
	if err := checkpoint.Register(ctx, mgr, mgr.GetEventRecorder(name), o.Checkpoint); err != nil {
		return nil, err
	}
	return mgr, addProbes(mgr, drain)
}

// serverOptions let the rotator bring the certificate, or have the server watch the files.
func serverOptions(o Options, rotator *selfsigned.Rotator) webhook.Options {
	server := webhook.Options{
		Port: o.WebhookPort, CertDir: o.CertDir,
		TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }},
	}
	if o.CertMode == CertRotate {
		server.TLSOpts = append(server.TLSOpts, func(c *tls.Config) { c.GetCertificate = rotator.GetCertificate })
	}
	return server
}

// addCertificate fills the rotator in, now that there is a manager.
func addCertificate(mgr manager.Manager, o Options, rotator *selfsigned.Rotator) error {
	if o.CertMode != CertRotate {
		return nil
	}
	rotator.Client, rotator.Live, rotator.Clock = mgr.GetClient(), mgr.GetAPIReader(), clock.RealClock{}
	rotator.Secret = client.ObjectKey{Namespace: o.Namespace, Name: o.CertSecret}
	rotator.Configuration = o.Configuration
	rotator.Policy = selfsigned.Policy{Host: o.Service + "." + o.Namespace + ".svc", Lifetime: o.CertLifetime}
	if err := mgr.AddReadyzCheck("certificate", rotator.Ready); err != nil {
		return fmt.Errorf("adding the readiness of the certificate: %w", err)
	}
	return rotator.Register(mgr)
}

func addAdmission(ctx context.Context, mgr manager.Manager, o Options) error {
	if err := watchLease(ctx, mgr); err != nil {
		return err
	}
	o.Admission.Images = o.Checkpoint.Retention.Registry
	admission.SetupNodes(mgr, o.Admission.Taints)
	return admission.SetupWithManager(ctx, mgr, o.Admission)
}

// evictionsServed tells whether there can be EvictionRequests to respond to. Where there can't, all else goes on.
func evictionsServed(config *rest.Config) bool {
	served, err := askEvictions(config)
	if !served || err != nil {
		ctrl.Log.Info("Not responding to EvictionRequests, for the API server does not serve them: "+
			"start it with --feature-gates=EvictionRequestAPI=true and --runtime-config=lifecycle.k8s.io/v1alpha1=true, and this program again", "error", err)
	}
	return served && err == nil
}

func askEvictions(config *rest.Config) (bool, error) {
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return false, fmt.Errorf("making a client of the API server: %w", err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, httpClient)
	if err != nil {
		return false, fmt.Errorf("asking the API server what it serves: %w", err)
	}
	return evictionrequest.Served(mapper)
}

func addProbes(mgr manager.Manager, drain *drainer) error {
	return errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("webhook", mgr.GetWebhookServer().StartedChecker()),
		mgr.AddReadyzCheck("cache", cacheSynced(mgr.GetCache())),
		mgr.AddReadyzCheck("staying", drain.Ready),
	)
}
