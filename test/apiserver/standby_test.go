// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/checkpoint/schedule"
	"github.com/cryopod/cryopod/pkg/checkpoint/standby"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/test/apiserver"
)

// lead runs the controllers of checkpoints on a schedule until stop is called or the test ends. It returns when their caches are full.
func lead(t *testing.T) (stop func()) {
	t.Helper()
	mgr, err := ctrl.NewManager(server.Config, ctrl.Options{
		Scheme: apiserver.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelEnabled: "true"})},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := index.Add(ctx, mgr.GetFieldIndexer()); err != nil {
		t.Fatal(err)
	}
	events := mgr.GetEventRecorder("test")
	for _, r := range []interface{ Register(ctrl.Manager) error }{
		&standby.Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Events: events, Clock: clock.RealClock{}},
		&schedule.Reconciler{Client: mgr.GetClient(), Events: events, Clock: clock.RealClock{}},
	} {
		if err := r.Register(mgr); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the cache was not filled")
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the controllers ended with: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// runOn makes the pod and what its kubelet would write.
func runOn(t *testing.T, pod *corev1.Pod, node *corev1.Node) *corev1.Pod {
	t.Helper()
	pod.Spec.NodeName = node.Name
	create(t, pod)
	pod.Status = corev1.PodStatus{
		Phase: corev1.PodRunning,
		ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true, State: corev1.ContainerState{
			Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(time.Now().Add(-time.Hour))},
		}}},
	}
	if err := admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func everyHour(p *corev1.Pod) { p.Annotations[v1alpha1.AnnotationInterval] = "1h" }

// madeReady makes a checkpoint of the pod that is Ready.
func madeReady(t *testing.T, pod *corev1.Pod, r match.Request) *v1alpha1.PodCheckpoint {
	t.Helper()
	pc := create(t, match.NewCheckpoint(pod, r))
	pc.Status.Owner, pc.Status.TemplateHash = match.OwnerOf(pod), pod.Annotations[v1alpha1.AnnotationTemplateHash]
	pc.Status.Containers = []v1alpha1.ContainerCheckpoint{{
		Name: "main", BaseImage: "registry.test/app:1", BaseImageDigest: "registry.test/app@sha256:" + digest,
		Image: "registry.test/ckpt@sha256:" + digest, ImageTag: "registry.test/ckpt/" + pod.Namespace + ":" + pc.Name + ".main",
	}}
	pc.Status.Enter(v1alpha1.PhaseFreezing, "", time.Now().Add(-4*time.Minute))
	pc.Status.Enter(v1alpha1.PhaseReady, "", time.Now().Add(-4*time.Minute+time.Second))
	if err := admin.Status().Update(t.Context(), pc); err != nil {
		t.Fatal(err)
	}
	return pc
}

var onSchedule = match.Request{Attempt: 1, Reason: v1alpha1.ReasonSchedule}

// becomes waits for the checkpoint's phase.
func becomes(t *testing.T, pc *v1alpha1.PodCheckpoint, phase v1alpha1.Phase) *v1alpha1.PodCheckpoint {
	t.Helper()
	live := &v1alpha1.PodCheckpoint{}
	within(t, 10*time.Second, fmt.Sprintf("%s is %s", pc.Name, phase), func() bool {
		if err := admin.Get(t.Context(), client.ObjectKeyFromObject(pc), live); err != nil {
			t.Fatal(err)
		}
		return live.Status.Phase == phase
	})
	return live
}

// startsFrom makes the pod that the ReplicaSet would make now, and tells which checkpoint it starts from.
func startsFrom(t *testing.T, ns string) string {
	t.Helper()
	return create(t, newPod(ns, everyHour)).Annotations[v1alpha1.AnnotationRestoreFrom]
}

func wantFrom(t *testing.T, got, want, who string) {
	t.Helper()
	if got != want {
		t.Errorf("%s starts from %q, want %q", who, got, want)
	}
}

// TestLostWithItsNode: the machine is gone, its object is removed, and the collector finds the pod.
func TestLostWithItsNode(t *testing.T) {
	lead(t)
	ns, node := namespace(t, nil), machine(t)
	a := runOn(t, newPod(ns, everyHour), node)
	pc := madeReady(t, a, onSchedule)
	dies(t, node)
	removed(t, node)
	collects(t, a)
	wantFrom(t, startsFrom(t, ns), pc.Name, "the replacement")
	live := becomes(t, pc, v1alpha1.PhaseClaimed)
	if !match.SourceLost(live) {
		t.Errorf("it is not written how the pod is known to be lost: %v", live.Status.Conditions)
	}
	wantFrom(t, startsFrom(t, ns), "", "one more pod")
}

// TestManyLostAtOnce: each of ten replacements, made at the same time, starts from a checkpoint of its own.
func TestManyLostAtOnce(t *testing.T) {
	const pods = 10
	lead(t)
	ns, node := namespace(t, nil), machine(t)
	var lost []*corev1.Pod
	for range pods {
		a := runOn(t, newPod(ns, everyHour), node)
		madeReady(t, a, onSchedule)
		lost = append(lost, a)
	}
	// Kubernetes keeps times to the second: pods of the same second count as each other's replacements.
	time.Sleep(time.Second)
	dies(t, node)
	removed(t, node)
	for _, a := range lost {
		collects(t, a)
	}
	from := make(chan string, pods)
	for range pods {
		go func() {
			pod := newPod(ns, everyHour)
			if err := admin.Create(context.Background(), pod); err != nil {
				t.Error(err)
			}
			from <- pod.Annotations[v1alpha1.AnnotationRestoreFrom]
		}()
	}
	seen := map[string]int{}
	for range pods {
		seen[<-from]++
	}
	for name, n := range seen {
		if n > 1 || name == "" {
			t.Errorf("%d pods start from %q", n, name)
		}
	}
}

// TestLostOneAfterTheOther: a pod that was never saved goes first, and what is made for it is not made for those that go within the same second.
func TestLostOneAfterTheOther(t *testing.T) {
	lead(t)
	ns, node := namespace(t, nil), machine(t)
	of := create(t, replicaSet(ns, 3))
	owned := func(p *corev1.Pod) { p.OwnerReferences[0].UID = of.UID }
	lost := []*corev1.Pod{runOn(t, newPod(ns, everyHour, owned), node), runOn(t, newPod(ns, everyHour, owned), node)}
	for _, a := range lost {
		madeReady(t, a, onSchedule)
	}
	unsaved := runOn(t, newPod(ns, everyHour, owned), node)
	dies(t, node)
	removed(t, node)
	collects(t, unsaved)
	wantFrom(t, create(t, newPod(ns, everyHour, owned)).Annotations[v1alpha1.AnnotationRestoreFrom], "", "the one for the pod that was not saved")
	seen := map[string]bool{}
	for _, a := range lost {
		collects(t, a)
		from := create(t, newPod(ns, everyHour, owned)).Annotations[v1alpha1.AnnotationRestoreFrom]
		if from == "" || seen[from] {
			t.Errorf("a replacement starts from %q", from)
		}
		seen[from] = true
	}
}

func replicaSet(ns string, replicas int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": "web"}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: newPod(ns).Spec},
		},
	}
}

// TestEvictedThenNodeRemoved: the pod ended in peace, and only later its node went. A pod that is made then is a new one.
func TestEvictedThenNodeRemoved(t *testing.T) {
	lead(t)
	ns, node := namespace(t, nil), machine(t)
	a := runOn(t, newPod(ns, everyHour), node)
	pc := madeReady(t, a, onSchedule)
	goes(t, a)
	wantFrom(t, startsFrom(t, ns), "", "the replacement")
	ends(t, a)
	live := becomes(t, pc, v1alpha1.PhaseExpired)
	if match.SourceLost(live) || !strings.Contains(live.Status.Message, "lives") {
		t.Errorf("message %q, conditions %v", live.Status.Message, live.Status.Conditions)
	}
	dies(t, node)
	removed(t, node)
	wantFrom(t, startsFrom(t, ns), "", "one of a scale-up")
}

// TestUnreachable: the node can't be reached, the taint manager deletes its pod, and the replacement starts cold. When the pod turns out to have
// been lost after all, it has been replaced.
func TestUnreachable(t *testing.T) {
	stop := lead(t)
	ns, node := namespace(t, nil), machine(t)
	a := runOn(t, newPod(ns, everyHour), node)
	pc := madeReady(t, a, onSchedule)
	dies(t, node)
	goes(t, a)
	wantFrom(t, startsFrom(t, ns), "", "the replacement")
	live := becomes(t, pc, v1alpha1.PhaseExpired)
	if !strings.Contains(live.Status.Message, "may be running there") {
		t.Errorf("message %q", live.Status.Message)
	}
	stop()
	removed(t, node)
	collects(t, a)
	wantFrom(t, startsFrom(t, ns), "", "one of a scale-up")
}

// TestUnreachableWhileNobodyLeads is the same without a leader: the pod that was made meanwhile rules the checkpoint out.
func TestUnreachableWhileNobodyLeads(t *testing.T) {
	ns, node := namespace(t, nil), machine(t)
	a := runOn(t, newPod(ns, everyHour), node)
	pc := madeReady(t, a, onSchedule)
	dies(t, node)
	goes(t, a)
	wantFrom(t, startsFrom(t, ns), "", "the replacement")
	taint(t, node, corev1.TaintNodeOutOfService)
	wantFrom(t, startsFrom(t, ns), "", "one of a scale-up")
	lead(t)
	becomes(t, pc, v1alpha1.PhaseExpired)
}

// TestOutOfService: the administrator says that the machine is off, and its pods are deleted. No leader is needed while the pod is there.
func TestOutOfService(t *testing.T) {
	ns, node := namespace(t, nil), machine(t)
	a := runOn(t, newPod(ns, everyHour), node)
	pc := madeReady(t, a, onSchedule)
	dies(t, node)
	taint(t, node, corev1.TaintNodeOutOfService)
	wantFrom(t, startsFrom(t, ns), "", "a pod that is made while the old one is not deleted")
	// As above: one of the same second would count as the replacement.
	time.Sleep(time.Second)
	goes(t, a)
	wantFrom(t, startsFrom(t, ns), pc.Name, "the replacement")
	live := becomes(t, pc, v1alpha1.PhaseClaimed)
	if !match.SourceLost(live) {
		t.Errorf("it is not written how the pod is known to be lost: %v", live.Status.Conditions)
	}
}

// TestCollectedWhileNobodyLeads: what nobody saw is not known.
func TestCollectedWhileNobodyLeads(t *testing.T) {
	ns, node := namespace(t, nil), machine(t)
	a := runOn(t, newPod(ns, everyHour), node)
	pc := madeReady(t, a, onSchedule)
	dies(t, node)
	removed(t, node)
	collects(t, a)
	began := time.Now()
	wantFrom(t, startsFrom(t, ns), "", "the replacement")
	if took := time.Since(began); took < 3*time.Second || took > 20*time.Second {
		t.Errorf("its creation took %s, want about the 3s that the leader is waited for", took)
	}
	lead(t)
	becomes(t, pc, v1alpha1.PhaseExpired)
	wantFrom(t, startsFrom(t, ns), "", "one more pod")
}

// TestFencedComesFirst: the pod stood still for its eviction when its node went. It goes on from there, and from nowhere else.
func TestFencedComesFirst(t *testing.T) {
	lead(t)
	ns, node := namespace(t, nil), machine(t)
	a := runOn(t, newPod(ns, everyHour), node)
	old := madeReady(t, a, onSchedule)
	last := madeReady(t, a, match.Request{Attempt: 2, Reason: v1alpha1.ReasonEviction, Fence: true})
	dies(t, node)
	removed(t, node)
	collects(t, a)
	wantFrom(t, startsFrom(t, ns), last.Name, "the replacement")
	wantFrom(t, startsFrom(t, ns), "", "one more pod")
	becomes(t, old, v1alpha1.PhaseExpired)
}

// TestStatefulSetPod: its replacement has its name and can't be made before the old one is gone, however long that takes.
func TestStatefulSetPod(t *testing.T) {
	lead(t)
	ns, node := namespace(t, nil), machine(t)
	inSet := func(p *corev1.Pod) {
		p.GenerateName, p.Name = "", "web-0"
		p.OwnerReferences[0].Kind, p.OwnerReferences[0].UID = "StatefulSet", types.UID("set-"+ns)
	}
	a := runOn(t, newPod(ns, everyHour, inSet), node)
	pc := madeReady(t, a, onSchedule)
	dies(t, node)
	goes(t, a)
	removed(t, node)
	collects(t, a)
	b := create(t, newPod(ns, everyHour, inSet))
	wantFrom(t, b.Annotations[v1alpha1.AnnotationRestoreFrom], pc.Name, "the pod of its name")
}

// TestSuperseded: of a pod that runs, the newest is kept.
func TestSuperseded(t *testing.T) {
	lead(t)
	ns, node := namespace(t, nil), machine(t)
	a := runOn(t, newPod(ns, everyHour), node)
	first := madeReady(t, a, onSchedule)
	second := madeReady(t, a, match.Request{Attempt: 2, Reason: v1alpha1.ReasonSchedule})
	becomes(t, first, v1alpha1.PhaseExpired)
	becomes(t, second, v1alpha1.PhaseReady)
}

// TestScheduleIsKept: a pod that has run for longer than its interval is saved.
func TestScheduleIsKept(t *testing.T) {
	lead(t)
	ns, node := namespace(t, nil), machine(t)
	profile(t, node.Name)
	a := runOn(t, newPod(ns, annotated(v1alpha1.AnnotationInterval, "1m")), node)
	within(t, 10*time.Second, "a PodCheckpoint", func() bool { return len(checkpoints(t, ns)) == 1 })
	got := checkpoints(t, ns)[0].Spec
	if got.PodUID != a.UID || got.Reason != v1alpha1.ReasonSchedule || got.Fence || got.Removal != v1alpha1.RemovalNone || got.Deadline == nil {
		t.Errorf("spec = %+v", got)
	}
}
