// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/dump"
	"github.com/cryopod/cryopod/pkg/agent/export"
	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/agent/kubelet"
	"github.com/cryopod/cryopod/pkg/agent/prefetch"
	"github.com/cryopod/cryopod/pkg/agent/profile"
	"github.com/cryopod/cryopod/pkg/agent/rewind"
	"github.com/cryopod/cryopod/pkg/agent/selftest"
	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/image"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// stopping is how long the agent may take to end attempts that are under way; the DaemonSet leaves more.
const stopping = 25 * time.Second

// agent holds the parts while they are put together.
type agent struct {
	Options
	mgr       manager.Manager
	runtime   *containerd.Client
	kubelet   *kubelet.Client
	profile   *profile.Profile
	publisher *profile.Publisher
	bandwidth *export.Bandwidth
	dumpRate  *export.Bandwidth
	pullRate  *export.Bandwidth
	clock     clock.RealClock
}

// Run runs the agent until ctx ends.
func Run(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return fmt.Errorf("making --state-dir %q: %w", o.StateDir, err)
	}
	unlock, err := fence.Lock(ctx, filepath.Join(o.StateDir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	metrics.ShowAgent()
	a, err := newAgent(o)
	if err != nil {
		return err
	}
	defer func() { _ = a.runtime.Close() }()
	if err := a.publish(); err != nil {
		return err
	}
	for _, add := range []func() error{a.addSource, a.addRewinder, a.addPrefetcher, a.addUpkeep, a.addNotices, a.addSelfTest, a.addProbes} {
		if err := add(); err != nil {
			return err
		}
	}
	return a.mgr.Start(ctx)
}

func newAgent(o Options) (*agent, error) {
	a := &agent{Options: o, profile: &profile.Profile{}}
	a.bandwidth = &export.Bandwidth{Changed: func() {
		a.profile.Update(func(f *profile.Facts) { f.PushBytesPerSecond = a.bandwidth.BytesPerSecond() })
	}}
	a.dumpRate = &export.Bandwidth{Changed: func() {
		a.profile.Update(func(f *profile.Facts) { f.DumpBytesPerSecond = a.dumpRate.BytesPerSecond() })
	}}
	a.pullRate = &export.Bandwidth{Memory: profile.PullMemory, Changed: func() {
		a.profile.Note(func(f *profile.Facts) { f.PullBytesPerSecond = a.pullRate.BytesPerSecond() })
	}}
	node, err := profile.ReadNode()
	if err != nil {
		return nil, err
	}
	a.profile.Update(func(f *profile.Facts) { f.Node = node })
	if a.runtime, err = containerd.New(o.ContainerdSocket); err != nil {
		return nil, err
	}
	a.kubelet, err = kubelet.New(kubelet.Options{
		Address: o.KubeletAddress, CAFile: o.KubeletCA, ServerName: o.KubeletServerName, TokenFile: o.KubeletToken,
		Insecure: o.KubeletInsecure,
	})
	if err != nil {
		return nil, err
	}
	return a, a.newManager()
}

func (a *agent) newManager() error {
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("reading how to reach the API server: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("making the scheme: %w", err)
	}
	a.mgr, err = ctrl.NewManager(config, ctrl.Options{
		Scheme:                  scheme,
		Metrics:                 metricsserver.Options{BindAddress: a.MetricsAddress},
		HealthProbeBindAddress:  a.ProbeAddress,
		GracefulShutdownTimeout: new(stopping),
		Cache: ctrlcache.Options{DefaultTransform: ctrlcache.TransformStripManagedFields(), ByObject: map[client.Object]ctrlcache.ByObject{
			&v1alpha1.PodCheckpoint{}: {Field: fields.OneTermEqualSelector("spec.nodeName", a.NodeName)},
			&v1alpha1.NodeProfile{}:   {Field: fields.OneTermEqualSelector("metadata.name", a.NodeName)},
		}},
		Client: client.Options{Cache: &client.CacheOptions{
			DisableFor: []client.Object{&corev1.Pod{}, &corev1.Node{}, &v1alpha1.NodeProfile{}},
		}},
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	return nil
}

// publish keeps the NodeProfile as the facts say; also when someone else changes or deletes it.
func (a *agent) publish() error {
	a.publisher = profile.NewPublisher(a.NodeName, a.mgr.GetClient(), a.profile.Facts, a.clock)
	a.profile.Changed, a.profile.Unhurried, a.profile.Urgent = a.publisher.Changed, a.publisher.Unhurried, a.publisher.Urgent
	informer, err := a.mgr.GetCache().GetInformer(context.Background(), &v1alpha1.NodeProfile{}, ctrlcache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching node profile %q: %w", a.NodeName, err)
	}
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(any, any) { a.publisher.Changed() },
		DeleteFunc: func(any) { a.publisher.Changed() },
	})
	if err != nil {
		return fmt.Errorf("watching node profile %q: %w", a.NodeName, err)
	}
	a.publisher.Changed()
	return a.mgr.Add(a.publisher)
}

func (a *agent) addSource() error {
	ledger, err := fence.OpenLedger(filepath.Join(a.StateDir, "frozen.json"))
	if err != nil {
		return err
	}
	disk, err := a.disk()
	if err != nil {
		return fmt.Errorf("reading --disk-budget: %w", err)
	}
	reconciler := &source.Reconciler{
		Client:    a.mgr.GetClient(),
		Live:      a.mgr.GetAPIReader(),
		Fence:     a.runtime,
		Processes: a.runtime,
		Ledger:    ledger,
		Dumper:    &dump.Dumper{Kubelet: a.kubelet, StateDir: filepath.Dir(a.ContainerdSocket), Rate: a.dumpRate},
		Exporter: &export.Exporter{
			Registry: a.registry(), Prefix: a.Registry, Images: a.runtime, Dir: a.CheckpointDir, Origin: a.origin, Bandwidth: a.bandwidth,
			Cluster: &export.Cluster{Reader: a.mgr.GetAPIReader()},
		},
		Requirements: a.profile.Requirements,
		Recorder:     source.Events{Recorder: a.mgr.GetEventRecorder("cryopod-agent")},
		Clock:        a.clock,
		MaxParallel:  a.MaxParallel,
		Usage:        a.runtime,
		Disk:         disk,
	}
	return reconciler.SetupWithManager(a.mgr)
}

// registry is the one of checkpoint images, with the agent's credentials.
func (a *agent) registry() *image.Pusher {
	registry := &image.Pusher{Workers: a.CompressWorkers, Insecure: a.RegistryInsecure}
	if a.RegistryConfig != "" {
		registry.Keychain = image.DockerConfig(a.RegistryConfig)
	}
	return registry
}

func (a *agent) addPrefetcher() error {
	if !a.Prefetch {
		return nil
	}
	watch := func(topics string) func(context.Context, func()) error {
		return func(ctx context.Context, changed func()) error { return a.runtime.Watch(ctx, changed, topics) }
	}
	return a.mgr.Add(&prefetch.Prefetcher{
		Node: a.NodeName, Prefix: a.Registry, Registry: a.registry(), Store: a.runtime, Live: a.mgr.GetAPIReader(), Clock: a.clock,
		Starts: watch(containerd.ContainerTopics), Pulls: watch(containerd.ImageTopics),
	})
}

func (a *agent) addRewinder() error {
	return a.mgr.Add(&rewind.Rewinder{
		Prefix: a.Registry, Containers: a.runtime, Images: a.runtime, Tasks: a.runtime, Clock: a.clock,
		Watch: func(ctx context.Context, changed func()) error {
			return a.runtime.Watch(ctx, changed, rewind.Topics...)
		},
	})
}

// origin describes this node for the images' annotations.
func (a *agent) origin() image.Origin {
	f := a.profile.Facts()
	return image.Origin{
		Runtime: f.Runtime, CRIUVersion: f.CRIUVersion, Arch: f.Node.Arch, Kernel: f.Node.Kernel,
		CgroupVersion: "v" + strconv.Itoa(int(f.Node.CgroupVersion)),
	}
}

func (a *agent) addSelfTest() error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the agent's own program: %w", err)
	}
	tester := &selftest.Tester{
		Runtime: a.runtime.Runtime, Images: a.runtime.Images, Store: a.runtime, Fence: a.runtime,
		Self:       selftest.Self{Namespace: a.PodNamespace, Pod: a.PodName, PodUID: a.PodUID, Container: a.ContainerName},
		Executable: executable, Dir: a.StateDir, StateDir: filepath.Dir(a.ContainerdSocket),
	}
	loop := &selftest.Loop{
		Identity: a.runtime.Identity,
		Test:     tester.Run,
		Seen: func(id containerd.Identity) {
			a.profile.Update(func(f *profile.Facts) { f.Runtime = id.Name })
		},
		Report: func(r selftest.Report) {
			a.profile.Update(func(f *profile.Facts) { f.Test, f.CRIUVersion = r.Test, r.CRIUVersion })
		},
		Clock: a.clock,
	}
	if !a.SelfTest {
		loop.Test = func(context.Context, string) selftest.Report { return selftest.NotRun("--self-test is off") }
	}
	return a.mgr.Add(loop)
}

func (a *agent) addProbes() error {
	runtimeAnswers := func(r *http.Request) error { return a.runtime.Serving(r.Context()) }
	if err := errors.Join(a.mgr.AddHealthzCheck("ping", healthz.Ping), a.mgr.AddReadyzCheck("containerd", runtimeAnswers)); err != nil {
		return fmt.Errorf("adding probes: %w", err)
	}
	return nil
}
