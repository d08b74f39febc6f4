// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/profile"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/locality"
)

// placer is the real scheduler with the shipped profile, one pod at a time.
type placer struct {
	scheduler *scheduler.Scheduler
	clock     *still

	pods, nodes, profiles, checkpoints *stream
	services                           *stream

	next     *framework.QueuedPodInfo
	outcomes chan outcome
}

// outcome is what became of a pod.
type outcome struct {
	node string // empty: it has to wait
	why  error
}

// still is the virtual time. Nothing happens by itself in it.
type still struct{ *clocktesting.FakeClock }

// NewTicker returns one that never ticks: what the plugin does by itself after a while, for pods that nobody wants to place, does not occur here.
func (*still) NewTicker(time.Duration) clock.Ticker { return silent{} }

type silent struct{}

func (silent) C() <-chan time.Time { return nil }

func (silent) Stop() {}

// newPlacer makes a scheduler with the configuration of that file, or without the plugin kube-scheduler as it is by default.
func newPlacer(ctx context.Context, file string, plugin bool, begin time.Time) (*placer, error) {
	p := &placer{
		clock:       &still{clocktesting.NewFakeClock(begin)},
		pods:        newStream(&corev1.Pod{}),
		nodes:       newStream(&corev1.Node{}),
		services:    newStream(&corev1.Service{}),
		profiles:    newStream(&v1alpha1.NodeProfile{}),
		checkpoints: newStream(&v1alpha1.PodCheckpoint{}),
		outcomes:    make(chan outcome, 1),
	}
	chosen, err := profileOf(file, plugin)
	if err != nil {
		return nil, err
	}
	client := fake.NewClientset()
	informed := informers.NewSharedInformerFactory(client, 0)
	p.pods.as(informed, &corev1.Pod{})
	p.nodes.as(informed, &corev1.Node{})
	p.services.as(informed, &corev1.Service{})
	feed := locality.Feed{Clock: p.clock, NodeProfiles: p.profiles, PodCheckpoints: p.checkpoints}
	// The informers of other kinds are never started: nothing of those occurs.
	p.scheduler, err = scheduler.New(ctx, client, informed, nil,
		profile.RecorderFactory(func(string) events.EventRecorderLogger { return &events.FakeRecorder{} }),
		scheduler.WithProfiles(*chosen),
		scheduler.WithKubeConfig(&rest.Config{}),
		// Nodes are looked at in the same order each time.
		scheduler.WithParallelism(1),
		scheduler.WithFrameworkOutOfTreeRegistry(frameworkruntime.Registry{
			locality.Name: locality.NewFed(feed),
			binderName:    func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error) { return &binder{p.outcomes}, nil },
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("making the scheduler: %w", err)
	}
	p.scheduler.NextEntity = func(klog.Logger) (framework.QueuedEntityInfo, error) { return p.next, nil }
	p.scheduler.FailureHandler = p.unplaced
	return p, nil
}

// unplaced ends place for a pod that no node takes now, or that could not be tried.
func (p *placer) unplaced(_ context.Context, _ framework.Framework, _ *framework.QueuedPodInfo, s *fwk.Status, _ *fwk.NominatingInfo, _ time.Time) {
	if s.IsRejected() {
		p.outcomes <- outcome{}
		return
	}
	p.outcomes <- outcome{why: s.AsError()}
}

// profileOf is the one with the plugin of a configuration, or kube-scheduler's own, with pods bound by the binder.
func profileOf(file string, plugin bool) (*config.KubeSchedulerProfile, error) {
	c, err := latest.Default()
	if plugin {
		c, err = options.LoadConfigFromFile(klog.Background(), file)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the scheduler's configuration: %w", err)
	}
	name := corev1.DefaultSchedulerName
	if plugin {
		name = v1alpha1.SchedulerName
	}
	i := slices.IndexFunc(c.Profiles, func(p config.KubeSchedulerProfile) bool { return p.SchedulerName == name })
	if i < 0 {
		return nil, fmt.Errorf("reading the scheduler's configuration: there is no profile %q", name)
	}
	chosen := &c.Profiles[i]
	chosen.SchedulerName = v1alpha1.SchedulerName // as the pods have it
	chosen.Plugins.Bind.Disabled = []config.Plugin{{Name: names.DefaultBinder}}
	chosen.Plugins.Bind.Enabled = []config.Plugin{{Name: binderName}}
	chosen.Plugins.PostBind.Enabled = []config.Plugin{{Name: binderName}}
	return chosen, nil
}

// place runs the scheduling cycle of a pod, and its binding cycle. It returns the node, empty where there is none for it now.
func (p *placer) place(ctx context.Context, pod *corev1.Pod) (string, error) {
	info, err := framework.NewPodInfo(pod)
	if err != nil {
		return "", fmt.Errorf("reading pod %q: %w", pod.Name, err)
	}
	p.next = &framework.QueuedPodInfo{PodInfo: info}
	p.scheduler.ScheduleOne(ctx)
	select {
	case o := <-p.outcomes:
		if o.why != nil && !errors.Is(o.why, scheduler.ErrNoNodesAvailable) {
			return "", fmt.Errorf("placing pod %q: %w", pod.Name, o.why)
		}
		return o.node, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

const binderName = "ReplayBinder"

// binder binds a pod by telling so.
type binder struct{ outcomes chan<- outcome }

func (*binder) Name() string { return binderName }

// Bind has nobody to tell: the caller of place makes the pod bound.
func (*binder) Bind(context.Context, fwk.CycleState, *corev1.Pod, string) *fwk.Status { return nil }

// PostBind ends place.
func (b *binder) PostBind(_ context.Context, _ fwk.CycleState, _ *corev1.Pod, node string) {
	b.outcomes <- outcome{node: node}
}
