// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/component-base/metrics/legacyregistry"
	fwk "k8s.io/kube-scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/backend/cache"
	"k8s.io/kubernetes/pkg/scheduler/framework"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/defaultbinder"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/queuesort"
	"k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/metrics"
	st "k8s.io/kubernetes/pkg/scheduler/testing/framework"
	"k8s.io/utils/clock"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/locality"
)

// newFramework is a scheduler framework with the plugin alone, over a snapshot of the nodes.
func newFramework(t *testing.T, server *apiServer, startup time.Duration, nodes ...*corev1.Node) framework.Framework {
	t.Helper()
	return newFrameworkWith(t, server, "", startup, nodes...)
}

func newFrameworkWith(t *testing.T, server *apiServer, args string, startup time.Duration, nodes ...*corev1.Node) framework.Framework {
	t.Helper()
	return newFrameworkAt(t, clock.RealClock{}, server, args, startup, nodes...)
}

func newFrameworkAt(
	t *testing.T, clk clock.WithTicker, server *apiServer, args string, startup time.Duration, nodes ...*corev1.Node,
) framework.Framework {
	t.Helper()
	factory := func(ctx context.Context, _ apiruntime.Object, h fwk.Handle) (fwk.Plugin, error) {
		return locality.NewTimed(clk, startup)(ctx, &apiruntime.Unknown{Raw: []byte(args)}, h)
	}
	metrics.Register()
	client := fake.NewClientset()
	f, err := st.NewFramework(t.Context(), []st.RegisterPluginFunc{
		st.RegisterQueueSortPlugin(queuesort.Name, queuesort.New),
		st.RegisterBindPlugin(defaultbinder.Name, defaultbinder.New),
		st.RegisterPluginAsExtensions(locality.Name, factory, "PreFilter", "Filter", "PreScore", "Score", "Reserve"),
	}, v1alpha1.SchedulerName,
		runtime.WithClientSet(client),
		runtime.WithInformerFactory(informers.NewSharedInformerFactory(client, 0)),
		runtime.WithKubeConfig(server.config),
		runtime.WithSnapshotSharedLister(cache.NewSnapshot(nil, nodes)),
	)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// place runs the cycle's extension points. It returns each node's refusal (empty: accepted) and each accepted one's score; nil
// scores when the plugin abstains.
func place(t *testing.T, f framework.Framework, pod *corev1.Pod) (refusals map[string]string, scores map[string]int64) {
	t.Helper()
	ctx := context.Background()
	state := framework.NewCycleState()
	nodes, err := f.SnapshotSharedLister().NodeInfos().List()
	if err != nil {
		t.Fatal(err)
	}
	if _, status, _ := f.RunPreFilterPlugins(ctx, state, pod); !status.IsSuccess() {
		t.Fatalf("prefilter: %v", status)
	}
	refusals = map[string]string{}
	var accepted []fwk.NodeInfo
	for _, n := range nodes {
		status := f.RunFilterPlugins(ctx, state, pod, n)
		refusals[n.Node().Name] = status.Message()
		switch {
		case status.IsSuccess():
			accepted = append(accepted, n)
		case status.Code() != fwk.UnschedulableAndUnresolvable:
			t.Errorf("node %s: got status %v, want UnschedulableAndUnresolvable", n.Node().Name, status.Code())
		}
	}
	if status := f.RunPreScorePlugins(ctx, state, pod, accepted); !status.IsSuccess() {
		t.Fatalf("prescore: %v", status)
	}
	if state.GetSkipScorePlugins().Has(locality.Name) {
		return refusals, nil
	}
	all, status := f.RunScorePlugins(ctx, state, pod, accepted)
	if !status.IsSuccess() {
		t.Fatalf("score: %v", status)
	}
	scores = map[string]int64{}
	for _, s := range all {
		scores[s.Name] = s.TotalScore
	}
	return refusals, scores
}

func TestPlacement(t *testing.T) {
	app, base := appStored(), stored("b", "registry.example/base:1", layer("1", 1000*mib))
	other := newProfile("other-cpu", true, app)
	other.Status.CPUFeatures = []string{"sse2"}
	profiles := []object{
		newProfile("cached", true, app),
		newProfile("layers", true, base),
		newProfile("empty", true),
		newProfile("unverified", false, app),
		other,
	}
	nodes := []*corev1.Node{
		newNode("cached", corev1.ContainerImage{Names: []string{appDigest, appImage}, SizeBytes: 3000 * mib}),
		newNode("layers"), newNode("empty"), newNode("unverified"), newNode("other-cpu"),
		newNode("bare", corev1.ContainerImage{Names: []string{appDigest, appImage}, SizeBytes: 3000 * mib}),
	}
	everywhere := map[string]string{"cached": "", "layers": "", "empty": "", "unverified": "", "other-cpu": "", "bare": ""}
	const (
		unverified = "node(s) whose agent has not verified restoring by method image"
		bare       = "node(s) without a NodeProfile (no Cryopod agent has reported from there)"
		otherCPU   = "node(s) whose CPU lacks avx2 that the checkpoint may use"
	)
	restorable := map[string]string{"cached": "", "layers": "", "empty": "", "unverified": unverified, "other-cpu": otherCPU, "bare": bare}
	byMethod := map[string]string{"cached": "", "layers": "", "empty": "", "unverified": unverified, "other-cpu": "", "bare": bare}

	change := func(c *v1alpha1.PodCheckpoint, f func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
		f(c)
		return c
	}
	annotate := func(pod *corev1.Pod, key, value string) *corev1.Pod { pod.Annotations[key] = value; return pod }
	failed := change(newCheckpoint(), func(c *v1alpha1.PodCheckpoint) { c.Status.Phase = v1alpha1.PhaseFailed })
	undemanding := change(newCheckpoint(), func(c *v1alpha1.PodCheckpoint) { c.Status.Requirements = nil })

	tests := map[string]struct {
		pod        *corev1.Pod
		checkpoint *v1alpha1.PodCheckpoint
		refusals   map[string]string
		scores     map[string]int64
	}{
		"not opted in": {
			pod: newPod("plain", appImage, nil), checkpoint: newCheckpoint(), refusals: everywhere,
		},
		"restoring": {
			pod: restoringPod(), checkpoint: newCheckpoint(), refusals: restorable,
			scores: map[string]int64{"cached": 100, "layers": 1, "empty": 0},
		},
		"restoring, without requirements": {
			pod: restoringPod(), checkpoint: undemanding, refusals: byMethod,
			scores: map[string]int64{"cached": 100, "layers": 1, "empty": 0, "other-cpu": 100},
		},
		"restoring, checkpoint not known": {
			pod: restoringPod(), refusals: byMethod,
			scores: map[string]int64{"cached": 100, "layers": 1, "empty": 0, "other-cpu": 100},
		},
		"restoring, checkpoint failed": {
			pod: restoringPod(), checkpoint: failed, refusals: everywhere,
			scores: map[string]int64{"cached": 100, "layers": 1, "empty": 0, "unverified": 100, "other-cpu": 100, "bare": 100},
		},
		"fell back": {
			pod: annotate(restoringPod(), v1alpha1.AnnotationFellBack, "criu: no"), checkpoint: newCheckpoint(), refusals: everywhere,
			scores: nil, // its images are on no node: the webhook's are still in the spec of this one
		},
		"starts fresh, by tag": {
			pod: enabledPod(), refusals: everywhere,
			scores: map[string]int64{"cached": 100, "layers": 1, "empty": 0, "unverified": 100, "other-cpu": 100, "bare": 100},
		},
		"starts fresh, by digest": {
			pod: newPod("pinned", appDigest, map[string]string{v1alpha1.AnnotationEnabled: "true"}), refusals: everywhere,
			scores: map[string]int64{"cached": 100, "layers": 1, "empty": 0, "unverified": 100, "other-cpu": 100, "bare": 100},
		},
		"starts fresh, another version of an image": {
			pod: newPod("rollout", "registry.example/app:2", map[string]string{v1alpha1.AnnotationEnabled: "true"}), refusals: everywhere,
			scores: map[string]int64{"cached": 100, "layers": 1, "empty": 0, "unverified": 100, "other-cpu": 100, "bare": 0},
		},
		"starts fresh, image nowhere": {
			pod: newPod("new", "registry.example/new:1", map[string]string{v1alpha1.AnnotationEnabled: "true"}), refusals: everywhere,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server := startAPIServer(t, profiles...)
			if tc.checkpoint != nil {
				server.put(tc.checkpoint)
			}
			f := newFramework(t, server, time.Minute, nodes...)
			refusals, scores := place(t, f, tc.pod)
			if diff := cmp.Diff(tc.refusals, refusals); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.scores, scores); diff != "" {
				t.Errorf("scores (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlacementWithoutCRDs(t *testing.T) {
	server := startAPIServer(t)
	server.missing = true
	f := newFramework(t, server, time.Millisecond,
		newNode("cached", corev1.ContainerImage{Names: []string{appDigest, appImage}, SizeBytes: 3000 * mib}), newNode("empty"))
	for name, pod := range map[string]*corev1.Pod{"restoring": restoringPod(), "starts fresh": enabledPod()} {
		t.Run(name, func(t *testing.T) {
			refusals, scores := place(t, f, pod)
			if diff := cmp.Diff(map[string]string{"cached": "", "empty": ""}, refusals); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string]int64{"cached": 100, "empty": 0}, scores); diff != "" {
				t.Errorf("scores (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPlacementWaitsForWhatComes: thousands of NodeProfiles take longer to read than the plugin waits for what may not be there at all.
func TestPlacementWaitsForWhatComes(t *testing.T) {
	server := startAPIServer(t, newProfile("fits", true), newProfile("unverified", false), newCheckpoint())
	server.slow = 400 * time.Millisecond
	f := newFramework(t, server, 100*time.Millisecond, newNode("fits"), newNode("unverified"))
	refusals, _ := place(t, f, restoringPod())
	want := map[string]string{"fits": "", "unverified": "node(s) whose agent has not verified restoring by method image"}
	if diff := cmp.Diff(want, refusals); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
}

func TestPlacementWithoutPatience(t *testing.T) {
	app := appStored()
	server := startAPIServer(t, newProfile("fits", true), newProfile("unverified", false, app), newProfile("cached", true, app), newCheckpoint())
	f := newFrameworkWith(t, server, `{"restorePatience":"0s"}`, time.Minute,
		newNode("fits"), newNode("unverified"), newNode("cached"), newNode("bare"))
	refusals, scores := place(t, f, restoringPod())
	if diff := cmp.Diff(map[string]string{"fits": "", "unverified": "", "cached": "", "bare": ""}, refusals); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"fits": 0, "unverified": 0, "cached": 100, "bare": 0}, scores); diff != "" {
		t.Errorf("scores (-want +got):\n%s", diff)
	}
}

func TestBadArgs(t *testing.T) {
	_, err := locality.New(t.Context(), &apiruntime.Unknown{Raw: []byte(`{"patience":"1m"}`)}, nil)
	if err == nil {
		t.Error("the plugin starts with args that it does not know")
	}
}

func TestMetrics(t *testing.T) {
	server := startAPIServer(t, newProfile("fits", true), newProfile("unverified", false), newCheckpoint())
	f := newFramework(t, server, time.Minute, newNode("fits"), newNode("unverified"), newNode("bare"))
	before := served(t)
	place(t, f, restoringPod())
	place(t, f, enabledPod())
	counted := map[string]float64{}
	for series, value := range served(t) {
		if value != before[series] {
			counted[series] = value - before[series]
		}
	}
	want := map[string]float64{
		"cryopod_scheduler_decisions_total checked":          1,
		"cryopod_scheduler_refusals_total method_unverified": 1,
		"cryopod_scheduler_refusals_total no_profile":        1,
	}
	if diff := cmp.Diff(want, counted); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

// served returns the plugin's series as kube-scheduler serves them: metric and label's value.
func served(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "cryopod_") {
			continue
		}
		for _, m := range f.GetMetric() {
			series[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return series
}

func TestSignPod(t *testing.T) {
	// Every plugin of this framework signs or needs no signature, so that the framework's signature tells the plugin's part.
	f := newFramework(t, startAPIServer(t), time.Minute)
	sign := func(pod *corev1.Pod) string { return string(f.SignPod(t.Context(), pod)) }
	plain := `{"v1.Pod.Spec.SchedulerName":"cryopod-scheduler"}`
	tests := map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"not opted in": {pod: newPod("plain", appImage, nil), want: plain},
		"starts fresh": {
			pod:  enabledPod(),
			want: `{"CheckpointLocality.NeededImages()":["` + appImage + `"],"v1.Pod.Spec.SchedulerName":"cryopod-scheduler"}`,
		},
		"restoring": {pod: restoringPod(), want: ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := sign(tc.pod); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
