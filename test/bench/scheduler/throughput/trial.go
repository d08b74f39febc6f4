// SPDX-License-Identifier: Apache-2.0

package throughput

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/locality"
	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/scale/store"
	"github.com/cryopod/cryopod/test/bench/scale/world"
	"github.com/cryopod/cryopod/test/bench/scheduler/timed"
)

const (
	// stalled is how long without a pod bound is too long: reading a large cluster comes first.
	stalled = 3 * time.Minute
	// settling is how long the API server may take to notice what was written into its etcd.
	settling = 5 * time.Minute
	// counting is how long the scheduler may take to count the pod that was bound last.
	counting = 10 * time.Second
	// polling is how often it is looked whether one of these is so.
	polling = 100 * time.Millisecond
	// unmeasured is one of how many pods at the beginning, and at the end, that is not measured: the scheduler has just read everything, or has
	// little left to do.
	unmeasured = 20
)

// trial is one run of a scheduler over a cluster full of waiting pods.
type trial struct {
	// bound are the times at which the API server told of each pod's binding, in order.
	bound []time.Time
	// nodes are where the pods of each number went.
	nodes map[int]string
	// cpu is what the scheduler took of all cores between the first and the last measured pod.
	cpu time.Duration
	// metrics are the scheduler's at the end.
	metrics rig.Metrics
}

// span are the first and the last pod that are measured.
func span(pods int) (first, last int) { return pods / unmeasured, pods - 1 - pods/unmeasured }

// rate is how many pods were bound in a second.
func (t *trial) rate() float64 {
	first, last := span(len(t.bound))
	return float64(last-first) / t.bound[last].Sub(t.bound[first]).Seconds()
}

// perPod is the scheduler's CPU for each measured pod.
func (t *trial) perPod() time.Duration {
	first, last := span(len(t.bound))
	return t.cpu / time.Duration(last-first)
}

// whole is how long it took from the first pod to the last one.
func (t *trial) whole() time.Duration { return t.bound[len(t.bound)-1].Sub(t.bound[0]) }

// plugin is what a plugin took for each pod, without what the stopwatch takes itself. Only a stopwatch's trial has it.
func (t *trial) plugin(name string) time.Duration {
	nanoseconds := t.metrics.Sum(timed.Nanoseconds, "plugin", name) - t.metrics.Sum(timed.Calls, "plugin", name)*t.metrics.Sum(timed.Clock)
	return time.Duration(max(0, nanoseconds) / float64(len(t.bound)))
}

// ground is a cluster in which trials take place.
type ground struct {
	bed   *rig.Bed
	store *store.Store
	nodes int
}

// populate makes the nodes.
func (g *ground) populate(ctx context.Context) error {
	for _, kind := range []func(i int) store.Object{world.Node, profile} {
		if err := g.store.Write(ctx, g.nodes, kind); err != nil {
			return err
		}
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: world.Namespace}}
	if err := client.IgnoreAlreadyExists(g.bed.Admin.Create(ctx, ns)); err != nil {
		return fmt.Errorf("making the namespace: %w", err)
	}
	return g.await(ctx, &metav1.PartialObjectMetadataList{TypeMeta: listOf("v1", "NodeList")}, g.nodes)
}

// try lets the scheduler of that side bind so many pods of the mix.
func (g *ground) try(ctx context.Context, s side, mix Mix, pods int) (t *trial, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := g.fill(ctx, s, mix, pods); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.empty(ctx)) }()
	bound, err := g.watch(ctx, pods)
	if err != nil {
		return nil, err
	}
	p, err := s.start(ctx, g.bed)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	t = &trial{}
	if err := t.follow(ctx, p, bound, pods); err != nil {
		return nil, fmt.Errorf("scheduling %d %s pods with %s: %w\n%s", pods, mix, s.name, err, p.Log())
	}
	if err := t.count(ctx, p); err != nil {
		return nil, err
	}
	if err := g.locate(ctx, t); err != nil {
		return nil, err
	}
	return t, t.check(s, mix)
}

// fill makes the pods that are to be scheduled, and the checkpoints of those that restore.
func (g *ground) fill(ctx context.Context, s side, mix Mix, pods int) error {
	if mix == Restoring {
		err := g.store.Write(ctx, (pods+RestoringOneIn-1)/RestoringOneIn, func(i int) store.Object {
			pc := checkpoint(i * RestoringOneIn)
			return store.Object{Key: checkpointsKey + pc.Name, Value: pc, Custom: true}
		})
		if err != nil {
			return err
		}
	}
	err := g.store.Write(ctx, pods, func(i int) store.Object {
		pod := mix.pod(i, s.scheduler)
		return store.Object{Key: podsKey + pod.Name, Value: pod}
	})
	if err != nil {
		return err
	}
	return g.await(ctx, &metav1.PartialObjectMetadataList{TypeMeta: listOf("v1", "PodList")}, pods, client.InNamespace(world.Namespace))
}

// Where the API server keeps what a trial leaves.
const (
	podsKey        = "pods/" + world.Namespace + "/"
	eventsKey      = "events/" + world.Namespace + "/"
	checkpointsKey = v1alpha1.Group + "/podcheckpoints/" + world.Namespace + "/"
)

// empty removes what a trial leaves, and what the API server writes after that: it still serves what a killed scheduler asked for last.
func (g *ground) empty(ctx context.Context) error {
	var revision string
	left := 0
	err := wait.PollUntilContextTimeout(ctx, polling, settling, true, func(ctx context.Context) (done bool, err error) {
		if revision, err = g.store.Remove(ctx, podsKey, checkpointsKey, eventsKey); err != nil {
			return false, err
		}
		left = 0
		for _, kind := range []metav1.TypeMeta{
			listOf("v1", "PodList"), listOf("v1", "EventList"), listOf(v1alpha1.GroupVersion.String(), "PodCheckpointList"),
		} {
			have, err := g.have(ctx, &metav1.PartialObjectMetadataList{TypeMeta: kind}, client.InNamespace(world.Namespace))
			if err != nil {
				return false, err
			}
			left += have
		}
		return left == 0, nil
	})
	if err != nil {
		return fmt.Errorf("removing what a trial leaves, %d objects are there: %w", left, err)
	}
	return g.store.Compact(ctx, revision)
}

func listOf(version, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: version, Kind: kind}
}

// await waits until the API server has as many objects as wanted.
func (g *ground) await(ctx context.Context, list *metav1.PartialObjectMetadataList, want int, in ...client.ListOption) error {
	have := 0
	err := wait.PollUntilContextTimeout(ctx, polling, settling, true, func(ctx context.Context) (done bool, err error) {
		have, err = g.have(ctx, list, in...)
		return have == want, err
	})
	if err != nil {
		return fmt.Errorf("waiting for %d of %s, there are %d: %w", want, list.Kind, have, err)
	}
	return nil
}

// have is how many objects the API server has.
func (g *ground) have(ctx context.Context, list *metav1.PartialObjectMetadataList, in ...client.ListOption) (int, error) {
	if err := g.bed.Admin.List(ctx, list, append(in, client.Limit(1))...); err != nil {
		return 0, err
	}
	have := len(list.Items)
	if list.RemainingItemCount != nil {
		have += int(*list.RemainingItemCount)
	}
	return have, nil
}

// watch tells of each pod once it is bound. It goes on where the API server ends a watch that it takes to be slow, as it may on a busy machine.
func (g *ground) watch(ctx context.Context, pods int) (<-chan time.Time, error) {
	admin, err := metadata.NewForConfig(g.bed.AdminConfig)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	bound := metadatainformer.NewFilteredMetadataInformer(admin, corev1.SchemeGroupVersion.WithResource("pods"), world.Namespace, 0, nil,
		func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermNotEqualSelector("spec.nodeName", "").String()
		}).Informer()
	times := make(chan time.Time, pods)
	_, err = bound.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(any) { times <- time.Now() }})
	if err != nil {
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	go bound.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), bound.HasSynced) {
		return nil, ctx.Err()
	}
	return times, nil
}

// follow notes when each pod is bound, until all are.
func (t *trial) follow(ctx context.Context, p *process, bound <-chan time.Time, pods int) error {
	var before rig.Usage
	first, last := span(pods)
	patience := time.NewTimer(stalled)
	defer patience.Stop()
	for len(t.bound) < pods {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.Done():
			return p.Ended()
		case <-patience.C:
			return fmt.Errorf("%d are bound, and no other one in %s", len(t.bound), stalled)
		case at := <-bound:
			patience.Reset(stalled)
			t.bound = append(t.bound, at)
			if n := len(t.bound) - 1; n == first || n == last {
				usage, err := rig.ReadUsage(p.PID())
				if err != nil {
					return err
				}
				t.cpu, before = usage.CPU-before.CPU, usage
			}
		}
	}
	return nil
}

// count reads the scheduler's metrics, once they have all pods: it counts one when it has heard that it is bound, which others hear too.
func (t *trial) count(ctx context.Context, p *process) error {
	err := wait.PollUntilContextTimeout(ctx, polling, counting, true, func(ctx context.Context) (done bool, err error) {
		t.metrics, err = rig.ReadMetrics(ctx, p.metrics)
		return err == nil && t.scheduled() == len(t.bound), err
	})
	if err != nil && !wait.Interrupted(err) {
		return err
	}
	return nil // check says what is wrong
}

// scheduled is how many pods the scheduler says that it has placed.
func (t *trial) scheduled() int {
	return int(t.metrics.Sum("scheduler_schedule_attempts_total", "result", "scheduled"))
}

// locate finds out where the pods are.
func (g *ground) locate(ctx context.Context, t *trial) error {
	var all corev1.PodList
	if err := g.bed.Admin.List(ctx, &all, client.InNamespace(world.Namespace)); err != nil {
		return fmt.Errorf("listing pods: %w", err)
	}
	t.nodes = make(map[int]string, len(all.Items))
	for i := range all.Items {
		t.nodes[number(&all.Items[i])] = all.Items[i].Spec.NodeName
	}
	return nil
}

// check tells whether the scheduler has done what it was to do: a fast one that does not is none.
func (t *trial) check(s side, mix Mix) error {
	if !slices.IsSortedFunc(t.bound, time.Time.Compare) || len(t.nodes) != len(t.bound) {
		return fmt.Errorf("%d pods were seen being bound, %d are there", len(t.bound), len(t.nodes))
	}
	if got := t.scheduled(); got != len(t.bound) {
		return fmt.Errorf("%s tells of %d pods, %d are bound", s.name, got, len(t.bound))
	}
	for pod, node := range t.nodes {
		switch i, known := nodeNumber(node); {
		case !known:
			return fmt.Errorf("pod %d is on %q", pod, node)
		case s.scheduler == v1alpha1.SchedulerName && mix.restores(pod) && old(i):
			return fmt.Errorf("pod %d restores on %q, whose CPU lacks what its checkpoint may use", pod, node)
		}
	}
	return nil
}

// checkScored tells whether the plugin scored nodes for the pods of the mix that it has work with, and for no others. Only a stopwatch's trial has
// counted that.
func (t *trial) checkScored(m Mix) error {
	scored := t.metrics.Sum(timed.Calls, "plugin", locality.Name, "point", "Score")
	switch wanted := m != Plain; {
	case wanted && scored == 0:
		return fmt.Errorf("%s scored no node for %s pods: what was timed is not its work", locality.Name, m)
	case !wanted && scored != 0:
		return fmt.Errorf("%s scored %.0f nodes for %s pods, which it has nothing to do with", locality.Name, scored, m)
	}
	return nil
}

// number is that of a pod.
func number(pod *corev1.Pod) int {
	var owner, i int
	_, _ = fmt.Sscanf(pod.Name, "app-%d-6d4cf56db6-%d", &owner, &i)
	return i
}

// nodeNumber is that of a node.
func nodeNumber(name string) (i int, ok bool) {
	_, err := fmt.Sscanf(name, "node-%d", &i)
	return i, err == nil && name == world.NodeName(i)
}
