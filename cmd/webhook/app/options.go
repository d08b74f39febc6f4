// SPDX-License-Identifier: Apache-2.0

package app

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/checkpoint"
	"github.com/cryopod/cryopod/pkg/termination"
)

// CertMode says where the serving certificate comes from.
type CertMode string

const (
	// CertRotate is the built-in rotation, by package selfsigned.
	CertRotate CertMode = "rotate"
	// CertFiles are files that somebody else renews, such as cert-manager.
	CertFiles CertMode = "files"
)

const (
	// maxHold leaves the API server's 30 s for a webhook enough for the answer.
	maxHold = 25 * time.Second
	// defaultShutdownDelay is ample for an EndpointSlice to change and every node to follow; maxShutdownDelay leaves time for the rest of the
	// Deployment's terminationGracePeriodSeconds.
	defaultShutdownDelay = 5 * time.Second
	maxShutdownDelay     = 15 * time.Second
	// minUnbound is the API server's own --request-timeout.
	minUnbound = time.Minute
	// minCertLifetime leaves a renewal several hours.
	minCertLifetime = 24 * time.Hour
)

// Options are what the flags say.
type Options struct {
	// Namespace is where this program runs: of its Service, its Secret and its Leases.
	Namespace string
	// Service is the Service by which the API server calls.
	Service string
	// WebhookPort is the TCP port of the webhooks.
	WebhookPort int
	// MetricsAddress and ProbeAddress are host:port, of plain HTTP.
	MetricsAddress, ProbeAddress string
	// ShutdownDelay is how long this program goes on answering when it is told to end.
	ShutdownDelay time.Duration
	// LeaderElect is whether replicas elect the one that runs the controllers.
	LeaderElect bool

	// CertMode says where the certificate comes from.
	CertMode CertMode
	// CertDir has tls.crt and tls.key, for CertFiles.
	CertDir string
	// CertSecret and Configuration name the Secret and the MutatingWebhookConfiguration, for CertRotate.
	CertSecret, Configuration string
	// CertLifetime is how long a certificate is valid, for CertRotate.
	CertLifetime time.Duration

	// SchedulerLease is the Lease of Cryopod's scheduler: a name in Namespace, or NAMESPACE/NAME. SchedulerHolder is how the identities of
	// those that hold it and are Cryopod's scheduler begin; empty is all.
	SchedulerLease, SchedulerHolder string
	// Taints are those that announce a node's end; OnCordon is whether a cordon does, too.
	Taints   termination.List
	OnCordon bool
	// Admission bounds what the webhooks do.
	Admission admission.Options
	// Checkpoint has the ages that the controllers act at.
	Checkpoint checkpoint.Options

	// LogLevel is debug, info, warn or error; LogFormat is json or text.
	LogLevel, LogFormat string
}

// Parse reads the options from the command line. Where the namespace is not given, it is that of the environment variable
// POD_NAMESPACE. An error names the flag.
func Parse(args []string, lookupEnv func(string) (string, bool)) (Options, error) {
	o := Options{}
	flags := pflag.NewFlagSet("webhook", pflag.ContinueOnError)
	flags.SortFlags = false
	namespace := "cryopod-system"
	if fromEnv, ok := lookupEnv("POD_NAMESPACE"); ok && fromEnv != "" {
		namespace = fromEnv
	}
	o.Checkpoint.Retention.Registry, _ = lookupEnv("CRYOPOD_REGISTRY")
	o.addServing(flags, namespace)
	o.addBehaviour(flags)
	if err := flags.Parse(args); err != nil {
		return Options{}, err
	}
	if flags.NArg() > 0 {
		return Options{}, fmt.Errorf("unexpected argument %q: everything is set by flags, see --help", flags.Arg(0))
	}
	return o, o.Validate()
}

func (o *Options) addServing(flags *pflag.FlagSet, namespace string) {
	flags.StringVar(&o.Namespace, "namespace", namespace,
		"namespace that this program runs in: of its Service, its Secret and its Leases")
	flags.StringVar(&o.Service, "service", "cryopod-webhook",
		"Service by which the API server calls the webhooks; the certificate is made for its name")
	flags.IntVar(&o.WebhookPort, "webhook-port", 9443, "TCP port of the webhooks")
	flags.StringVar(&o.MetricsAddress, "metrics-address", ":8080", "where /metrics is served, in plain HTTP; 0 for nowhere")
	flags.StringVar(&o.ProbeAddress, "probe-address", ":8081", "where /healthz and /readyz are served, in plain HTTP; 0 for nowhere")
	flags.DurationVar(&o.ShutdownDelay, "shutdown-delay", defaultShutdownDelay,
		"how long this program, once it is told to end, goes on answering those that have not learnt yet to ask another replica")
	flags.BoolVar(&o.LeaderElect, "leader-elect", true,
		"elect one replica to run the controllers; admission runs on all of them anyway")
	flags.StringVar((*string)(&o.CertMode), "cert-mode", string(CertRotate),
		"where the certificate comes from: rotate (made, renewed and trusted by this program) or files (renewed by others in --cert-dir)")
	flags.StringVar(&o.CertDir, "cert-dir", "/etc/cryopod/tls", "folder of tls.crt and tls.key, for --cert-mode=files; read again when they change")
	flags.StringVar(&o.CertSecret, "cert-secret", "cryopod-webhook-tls", "Secret that keeps the certificate, for --cert-mode=rotate")
	flags.StringVar(&o.Configuration, "webhook-configuration", "cryopod",
		"MutatingWebhookConfiguration that is told which CAs to trust, for --cert-mode=rotate")
	flags.DurationVar(&o.CertLifetime, "cert-lifetime", 90*24*time.Hour,
		"how long a certificate is valid, for --cert-mode=rotate; it is renewed when a third is left")
	flags.StringVar(&o.LogLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&o.LogFormat, "log-format", "json", "json or text")
}

func (o *Options) addBehaviour(flags *pflag.FlagSet) {
	flags.StringVar(&o.SchedulerLease, "scheduler-lease", "cryopod-scheduler",
		"Lease of Cryopod's scheduler, NAME or NAMESPACE/NAME: pods are sent to it only while somebody renews that")
	flags.StringVar(&o.SchedulerHolder, "scheduler-holder", "",
		"how the Lease's holder has to begin to be Cryopod's scheduler, where others stand for the same Lease")
	flags.DurationVar(&o.Admission.Hold, "hold", admission.DefaultHold,
		"how long one eviction or deletion is held while the pod is saved, before it is answered with 429; at most "+maxHold.String())
	flags.DurationVar(&o.Admission.PreemptionHold, "preemption-hold", admission.DefaultPreemptionHold,
		"the same for deletions by schedulers; make it short where the scheduler deletes within its scheduling cycle "+
			"(before Kubernetes 1.33, or with SchedulerAsyncPreemption off): all other pods wait for that")
	flags.IntVar(&o.Admission.MaxHolds, "max-holds", admission.DefaultMaxHolds,
		"how many evictions and deletions a replica holds at a time; further ones get their 429 at once")
	flags.StringSliceVar(&o.Admission.EvictingUsers, "evicting-users", admission.DefaultEvictingUsers,
		"users that delete pods to clear nodes: their deletions count as evictions; * stands for any characters but /")
	flags.DurationVar(&o.Admission.PickupTimeout, "pickup-timeout", admission.DefaultPickupTimeout,
		"how long a node's agent may take to begin, before the pod goes without a checkpoint")
	flags.IntVar(&o.Admission.MaxAttempts, "max-attempts", admission.DefaultMaxAttempts,
		"how often a pod is saved anew for one eviction, when nobody deleted it after the last time")
	flags.DurationVar(&o.Checkpoint.UnboundAfter, "unbound-after", checkpoint.DefaultUnboundAfter,
		"how long a checkpoint waits for the pod whose creation claimed it; longer than the API server's --request-timeout, "+
			"or a second pod might be given the same checkpoint")
	flags.DurationVar(&o.Checkpoint.ReadyFor, "ready-for", checkpoint.DefaultReadyFor,
		"how long a Ready checkpoint waits for a pod to claim it, before it expires")
	flags.BoolVar(&o.Checkpoint.EvictionRequests, "eviction-requests", false,
		"respond to EvictionRequests (KEP-4563, alpha); the API server has to serve lifecycle.k8s.io/v1alpha1, with its feature gate EvictionRequestAPI")
	o.addTermination(flags)
	addRetention(flags, &o.Checkpoint.Retention)
}

// schedulerLease is the key of SchedulerLease.
func (o *Options) schedulerLease() client.ObjectKey {
	if namespace, name, ok := strings.Cut(o.SchedulerLease, "/"); ok {
		return client.ObjectKey{Namespace: namespace, Name: name}
	}
	return client.ObjectKey{Namespace: o.Namespace, Name: o.SchedulerLease}
}

type flagValue struct{ flag, value string }

// Validate tells everything that is wrong with the options, each with its flag.
func (o *Options) Validate() error {
	var errs []error
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--"+flag+": "+format, args...))
	}
	for _, f := range []flagValue{{"namespace", o.Namespace}, {"service", o.Service}, {"scheduler-lease", o.SchedulerLease}} {
		if f.value == "" {
			wrong(f.flag, "must not be empty")
		}
	}
	if o.WebhookPort < 1 || o.WebhookPort > 65535 {
		wrong("webhook-port", "%d is no TCP port, want 1 to 65535", o.WebhookPort)
	}
	for _, f := range []flagValue{{"metrics-address", o.MetricsAddress}, {"probe-address", o.ProbeAddress}} {
		if _, _, err := net.SplitHostPort(f.value); f.value != "0" && err != nil {
			wrong(f.flag, "%q is no address, want HOST:PORT, :PORT, or 0 for none", f.value)
		}
	}
	if d := o.ShutdownDelay; d < 0 || d > maxShutdownDelay {
		wrong("shutdown-delay", "%s is not between 0 and %s; after 60s the kubelet kills", d, maxShutdownDelay)
	}
	if namespace, lease, ok := strings.Cut(o.SchedulerLease, "/"); ok && (namespace == "" || lease == "" || strings.Contains(lease, "/")) {
		wrong("scheduler-lease", "%q is neither NAME nor NAMESPACE/NAME", o.SchedulerLease)
	}
	o.validateCertificate(wrong)
	o.validateBehaviour(wrong)
	if err := new(slog.Level).UnmarshalText([]byte(o.LogLevel)); err != nil {
		wrong("log-level", "%q is none of debug, info, warn, error", o.LogLevel)
	}
	if o.LogFormat != "json" && o.LogFormat != "text" {
		wrong("log-format", "%q is none of json, text", o.LogFormat)
	}
	return errors.Join(errs...)
}

func (o *Options) validateCertificate(wrong func(flag, format string, args ...any)) {
	switch o.CertMode {
	case CertRotate:
		if o.CertSecret == "" {
			wrong("cert-secret", "must not be empty with --cert-mode=rotate")
		}
		if o.Configuration == "" {
			wrong("webhook-configuration", "must not be empty with --cert-mode=rotate")
		}
		if o.CertLifetime < minCertLifetime {
			wrong("cert-lifetime", "%s is too short, want %s or more", o.CertLifetime, minCertLifetime)
		}
	case CertFiles:
		if o.CertDir == "" {
			wrong("cert-dir", "must not be empty with --cert-mode=files")
		}
	default:
		wrong("cert-mode", "%q is none of rotate, files", o.CertMode)
	}
}

func (o *Options) validateBehaviour(wrong func(flag, format string, args ...any)) {
	if h := o.Admission.Hold; h <= 0 || h > maxHold {
		wrong("hold", "%s is not between 0 and %s; the API server gives a webhook 30s", h, maxHold)
	}
	if h := o.Admission.PreemptionHold; h <= 0 || h > maxHold {
		wrong("preemption-hold", "%s is not between 0 and %s; the API server gives a webhook 30s", h, maxHold)
	}
	for _, pattern := range o.Admission.EvictingUsers {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			wrong("evicting-users", "%q is no pattern, such as system:serviceaccount:*:karpenter", pattern)
		}
	}
	if o.Admission.MaxHolds < 1 {
		wrong("max-holds", "%d is less than 1", o.Admission.MaxHolds)
	}
	if o.Admission.PickupTimeout <= 0 {
		wrong("pickup-timeout", "%s is not positive", o.Admission.PickupTimeout)
	}
	if o.Admission.MaxAttempts < 1 {
		wrong("max-attempts", "%d is less than 1", o.Admission.MaxAttempts)
	}
	if u := o.Checkpoint.UnboundAfter; u <= minUnbound {
		wrong("unbound-after", "%s is not longer than %s, the API server's --request-timeout: until then the pod may still come, "+
			"and another one must not get its checkpoint", u, minUnbound)
	}
	if o.Checkpoint.ReadyFor <= 0 {
		wrong("ready-for", "%s is not positive", o.Checkpoint.ReadyFor)
	}
	validateRetention(wrong, &o.Checkpoint.Retention)
}
