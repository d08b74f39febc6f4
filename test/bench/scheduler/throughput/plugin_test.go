// SPDX-License-Identifier: Apache-2.0

package throughput_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"
	fwk "k8s.io/kube-scheduler/framework"
	schedulercache "k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultbinder"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/imagelocality"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/queuesort"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	st "k8s.io/kubernetes/pkg/scheduler/testing/framework"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/locality"
	"github.com/cryopod/cryopod/test/bench/scheduler/throughput"
)

const (
	// nodes is how many there are, scored how many of them the scheduler scores then.
	nodes  = 5000
	scored = 500
	pods   = 1000
)

// plugins makes a plugin for the benchmark's world, alone in a framework.
func plugins(b *testing.B, name string, factoryOf func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error)) (plugin fwk.Plugin, all []fwk.NodeInfo) {
	b.Helper()
	metrics.Register()
	client := fake.NewClientset()
	factory := informers.NewSharedInformerFactory(client, 0)
	f, err := st.NewFramework(b.Context(), []st.RegisterPluginFunc{
		st.RegisterQueueSortPlugin(queuesort.Name, queuesort.New), st.RegisterBindPlugin(defaultbinder.Name, defaultbinder.New),
		st.RegisterPluginAsExtensions(name, func(ctx context.Context, o runtime.Object, h fwk.Handle) (fwk.Plugin, error) {
			var err error
			plugin, err = factoryOf(ctx, o, h)
			return plugin, err
		}, "Score"),
	}, v1alpha1.SchedulerName, frameworkruntime.WithClientSet(client), frameworkruntime.WithInformerFactory(factory),
		frameworkruntime.WithKubeConfig(&rest.Config{}), frameworkruntime.WithSnapshotSharedLister(schedulercache.NewSnapshot(nil, throughput.Nodes(nodes))))
	if err != nil {
		b.Fatal(err)
	}
	if all, err = f.SnapshotSharedLister().NodeInfos().List(); err != nil {
		b.Fatal(err)
	}
	return plugin, all
}

// fed is CheckpointLocality with the world's profiles and checkpoints.
func fed() func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error) {
	profiles, checkpoints := fcache.NewFakeControllerSource(), fcache.NewFakeControllerSource()
	for i := range nodes {
		profiles.Add(throughput.Profile(i))
	}
	for i := 0; i < pods; i += throughput.RestoringOneIn {
		checkpoints.Add(throughput.Checkpoint(i))
	}
	return locality.NewFed(locality.Feed{
		Clock:          clock.RealClock{},
		NodeProfiles:   cache.NewSharedIndexInformer(profiles, &v1alpha1.NodeProfile{}, 0, nil),
		PodCheckpoints: cache.NewSharedIndexInformer(checkpoints, &v1alpha1.PodCheckpoint{}, 0, nil),
	})
}

// BenchmarkPlugins takes pods through a scheduling cycle's extension points, one pod after the other and no other plugin beside: what a pod costs where
// nothing else makes noise. go test ./test/bench/scheduler/throughput -run '^$' -bench Plugins
func BenchmarkPlugins(b *testing.B) {
	for _, one := range []struct {
		name      string
		factoryOf func(context.Context, runtime.Object, fwk.Handle) (fwk.Plugin, error)
	}{
		{"ImageLocality", func(ctx context.Context, _ runtime.Object, h fwk.Handle) (fwk.Plugin, error) {
			return imagelocality.New(ctx, nil, h)
		}},
		{"CheckpointLocality", fed()},
	} {
		plugin, all := plugins(b, one.name, one.factoryOf)
		for _, mix := range throughput.Mixes {
			waiting := make([]*corev1.Pod, pods)
			for i := range waiting {
				waiting[i] = mix.Pod(i, v1alpha1.SchedulerName)
			}
			b.Run(one.name+"/"+string(mix), func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					cycle(b, plugin, waiting[i%pods], all, i)
				}
			})
		}
	}
}

// cycle takes a pod through the plugin's extension points, as the framework would.
func cycle(b *testing.B, plugin fwk.Plugin, pod *corev1.Pod, all []fwk.NodeInfo, start int) {
	b.Helper()
	ctx, state := b.Context(), framework.NewCycleState()
	if p, ok := plugin.(fwk.PreEnqueuePlugin); ok {
		p.PreEnqueue(ctx, pod)
	}
	if p, ok := plugin.(fwk.SignPlugin); ok {
		p.SignPod(ctx, pod)
	}
	feasible := filter(b, plugin, state, pod, all, start)
	if p, ok := plugin.(fwk.PreScorePlugin); ok && p.PreScore(ctx, state, pod, feasible).IsSkip() {
		return
	}
	scorer := plugin.(fwk.ScorePlugin)
	scores := make(fwk.NodeScoreList, len(feasible))
	best := 0
	for i, n := range feasible {
		score, _ := scorer.Score(ctx, state, pod, n)
		scores[i] = fwk.NodeScore{Name: n.Node().Name, Score: score}
	}
	if e := scorer.ScoreExtensions(); e != nil {
		e.NormalizeScore(ctx, state, pod, scores)
	}
	for i := range scores {
		if scores[i].Score > scores[best].Score {
			best = i
		}
	}
	if p, ok := plugin.(fwk.ReservePlugin); ok {
		p.Reserve(ctx, state, pod, scores[best].Name)
	}
}

// filter finds as many nodes as are scored, from one after the other on.
func filter(b *testing.B, plugin fwk.Plugin, state fwk.CycleState, pod *corev1.Pod, all []fwk.NodeInfo, start int) (feasible []fwk.NodeInfo) {
	b.Helper()
	ctx, skip := b.Context(), true
	if p, ok := plugin.(fwk.PreFilterPlugin); ok {
		_, status := p.PreFilter(ctx, state, pod, all)
		skip = status.IsSkip()
	}
	p, filters := plugin.(fwk.FilterPlugin)
	for k := 0; k < len(all) && len(feasible) < scored; k++ {
		n := all[(start*scored+k)%len(all)]
		if skip || !filters || p.Filter(ctx, state, pod, n).IsSuccess() {
			feasible = append(feasible, n)
		}
	}
	return feasible
}
