// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// Name is the plugin's name in the scheduler's registry and configuration.
const Name = "CheckpointLocality"

// startupWait bounds how long New waits for the plugin's cache where nothing comes; comingWait times that where it only takes long (see data.wait). The wait
// spares the first restoring pods after a start from being placed blindly; its bound keeps a missing CRD from keeping the scheduler down.
const startupWait = 5 * time.Second

// Plugin implements the extension points of CheckpointLocality. It is safe for concurrent use, as the framework demands.
type Plugin struct {
	args      CheckpointLocalityArgs
	predictor predictor
	handle    fwk.Handle
	data      *data
	waiting   *waiting
	underWay  *underWay
	cpus      comparisons

	departures departures
}

var (
	_ fwk.PreFilterPlugin   = &Plugin{}
	_ fwk.FilterPlugin      = &Plugin{}
	_ fwk.PreScorePlugin    = &Plugin{}
	_ fwk.ScorePlugin       = &Plugin{}
	_ fwk.ScoreExtensions   = &Plugin{}
	_ fwk.ReservePlugin     = &Plugin{}
	_ fwk.EnqueueExtensions = &Plugin{}
	_ fwk.SignPlugin        = &Plugin{}
)

// New makes the plugin from its args (see DecodeArgs) and starts to watch NodeProfiles and PodCheckpoints until ctx is done. It
// fails on bad args or an unusable client configuration only: data that cannot be read is no reason to keep a scheduler down.
func New(ctx context.Context, obj runtime.Object, handle fwk.Handle) (fwk.Plugin, error) {
	return newPlugin(ctx, obj, handle, timing{clock: clock.RealClock{}, startup: startupWait})
}

// timing is what tests set in another way.
type timing struct {
	clock   clock.WithTicker
	startup time.Duration
	// data is newData where it is nil.
	data func(*rest.Config) (*data, error)
}

func newPlugin(ctx context.Context, obj runtime.Object, handle fwk.Handle, t timing) (*Plugin, error) {
	args, err := DecodeArgs(obj)
	if err != nil {
		return nil, err
	}
	if handle.KubeConfig() == nil {
		return nil, errors.New("reading the scheduler's client configuration: there is none")
	}
	registerMetrics()
	source := newData
	if t.data != nil {
		source = t.data
	}
	d, err := source(handle.KubeConfig())
	if err != nil {
		return nil, fmt.Errorf("preparing the watch of %s: %w", v1alpha1.GroupVersion, err)
	}
	p := &Plugin{
		args:      args,
		predictor: newPredictor(args.Model),
		handle:    handle,
		data:      d,
		waiting:   newWaiting(t.clock, args.RestorePatience.Duration),
		underWay:  newUnderWay(t.clock, d.images),

		departures: departures{nodes: sets.New[string]()},
	}
	if err := d.subscribe(p.nodeChanged, p.checkpointChanged); err != nil {
		return nil, fmt.Errorf("subscribing to %s: %w", v1alpha1.GroupVersion, err)
	}
	// The lister has to be asked for before the scheduler starts its informers.
	pods := handle.SharedInformerFactory().Core().V1().Pods()
	lister := pods.Lister()
	p.waiting.live = func(pod *corev1.Pod) (*corev1.Pod, error) { return lister.Pods(pod.Namespace).Get(pod.Name) }
	if err := p.watchPods(pods.Informer()); err != nil {
		return nil, fmt.Errorf("subscribing to pods: %w", err)
	}
	if err := p.watchNodes(handle.SharedInformerFactory().Core().V1().Nodes()); err != nil {
		return nil, fmt.Errorf("subscribing to nodes: %w", err)
	}
	p.waiting.activate = handle.Activate
	p.waiting.givenUp = p.giveUp

	logger := klog.FromContext(ctx).WithValues("plugin", Name)
	d.start(ctx)
	if !d.wait(ctx, t.startup) {
		logger.Info("NodeProfiles or PodCheckpoints cannot be read yet: restoring pods are placed without regard to them", "waited", t.startup)
	}
	go p.underWay.run(ctx)
	go p.waiting.run(klog.NewContext(ctx, logger))
	return p, nil
}

// Name returns the plugin's name.
func (*Plugin) Name() string { return Name }

// restoring reports whether the pod is still meant to start from a checkpoint.
func restoring(pod *corev1.Pod) bool {
	return pod.Annotations[v1alpha1.AnnotationRestoreFrom] != "" && pod.Annotations[v1alpha1.AnnotationFellBack] == ""
}

// optedIn reports whether Cryopod looks after the pod at all.
func optedIn(pod *corev1.Pod) bool {
	return pod.Annotations[v1alpha1.AnnotationEnabled] == "true" || restoring(pod)
}
