// SPDX-License-Identifier: Apache-2.0

package schedule_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	eventfake "github.com/cryopod/cryopod/pkg/checkpoint/event/fake"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
	"github.com/cryopod/cryopod/pkg/checkpoint/schedule"
	"github.com/cryopod/cryopod/pkg/match"
)

// world is the controller with a cluster that is a fake, at a time that the test sets.
type world struct {
	t      *testing.T
	client client.Client
	clock  *clocktesting.FakePassiveClock
	events *eventfake.Recorder
	r      *schedule.Reconciler
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, clock: clocktesting.NewFakePassiveClock(start), events: &eventfake.Recorder{}}
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.PodCheckpoint{}).
		WithIndex(&v1alpha1.PodCheckpoint{}, index.CheckpointPodUID, index.ByPodUID).WithIndex(&corev1.Pod{}, index.NodeName, index.ByNodeName).Build()
	w.r = &schedule.Reconciler{Client: w.client, Events: w.events, Clock: w.clock}
	return w
}

// at reconciles the pod at that time after start.
func (w *world) at(after time.Duration) reconcile.Result {
	w.t.Helper()
	w.clock.SetTime(start.Add(after))
	result, err := w.r.Reconcile(context.Background(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(scheduled())})
	if err != nil {
		w.t.Fatalf("Reconcile: %v", err)
	}
	return result
}

func (w *world) checkpoints() []v1alpha1.PodCheckpoint {
	w.t.Helper()
	var list v1alpha1.PodCheckpointList
	if err := w.client.List(context.Background(), &list); err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}

// enter does what an agent would.
func (w *world) enter(pc v1alpha1.PodCheckpoint, phase v1alpha1.Phase, message string) {
	w.t.Helper()
	pc.Status.Enter(phase, message, w.clock.Now())
	if err := w.client.Status().Update(context.Background(), &pc); err != nil {
		w.t.Fatal(err)
	}
}

func TestReconcileKeepsTheInterval(t *testing.T) {
	w := newWorld(t, scheduled(), node(), able())
	first := w.at(0).RequeueAfter
	if first < 5*time.Minute || first > 10*time.Minute {
		t.Fatalf("the first one is due after %s", first)
	}
	w.at(first)
	w.at(first + time.Second)
	made := w.checkpoints()
	if len(made) != 1 {
		t.Fatalf("%d checkpoints were made, want 1", len(made))
	}
	spec := made[0].Spec
	want := v1alpha1.PodCheckpointSpec{PodName: "cart", PodUID: "u1", NodeName: "n1", Reason: "Schedule", Removal: "None", Value: 100}
	got := v1alpha1.PodCheckpointSpec{
		PodName: spec.PodName, PodUID: spec.PodUID, NodeName: spec.NodeName, Reason: spec.Reason, Removal: spec.Removal, Value: spec.Value,
		Fence: spec.Fence,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if d := spec.Deadline; d == nil || d.Sub(start.Add(first)).Round(time.Second) != 10*time.Minute {
		t.Errorf("deadline = %v, want ten minutes on", d)
	}
	w.clock.SetTime(start.Add(first + 3*time.Second))
	w.enter(made[0], v1alpha1.PhaseReady, "")
	if after := w.at(first + 5*time.Second).RequeueAfter; after.Round(time.Second) != 9*time.Minute+58*time.Second {
		t.Errorf("the next one is due after %s, want an interval after the end of the last", after)
	}
	if lines := w.events.Lines(); len(lines) != 0 {
		t.Errorf("events %v, want none while all is well", lines)
	}
}

func TestReconcileTellsTroubleOnce(t *testing.T) {
	w := newWorld(t, scheduled(), node(), able())
	fails := func(at time.Duration) {
		w.at(at)
		made := w.checkpoints()
		w.enter(made[len(made)-1], v1alpha1.PhaseFailed, "criu: unsupported socket")
		w.at(at)
	}
	fails(10 * time.Minute)
	fails(30 * time.Minute)
	const note = "The pod was not saved when it was due (criu: unsupported socket); it is tried again, less and less often, and this is said once"
	told := []string{"Warning ScheduleLate on cart: " + note, "Warning ScheduleLate on carts: " + note}
	if diff := cmp.Diff(told, w.events.Lines()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	w.at(70 * time.Minute)
	made := w.checkpoints()
	w.enter(made[len(made)-1], v1alpha1.PhaseReady, "")
	w.at(71 * time.Minute)
	fails(80 * time.Minute)
	if diff := cmp.Diff(append(told, told...), w.events.Lines()); diff != "" {
		t.Errorf("events after it went well again (-want +got):\n%s", diff)
	}
}

func TestReconcileRefusesVolumesOnce(t *testing.T) {
	w := newWorld(t, scheduled(claim), node(), able())
	w.at(time.Hour)
	w.at(2 * time.Hour)
	const note = `checkpoint.io/interval is not heeded: its volume "data" outlives it and would be newer than the checkpoint; ` +
		"should the node die, the replacement starts cold"
	want := []string{"Warning NotSavedOnSchedule on cart: " + note, "Warning NotSavedOnSchedule on carts: " + note}
	if diff := cmp.Diff(want, w.events.Lines()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if n := len(w.checkpoints()); n != 0 {
		t.Errorf("%d checkpoints were made", n)
	}
}

func TestReconcileGivesWay(t *testing.T) {
	ours, theirs := attempt(1, 10*time.Minute, v1alpha1.PhaseFreezing), fenced(attempt(2, 10*time.Minute))
	w := newWorld(t, scheduled(), node(), able(), &ours, &theirs)
	w.at(10*time.Minute + time.Second)
	for _, pc := range w.checkpoints() {
		if gone := pc.Status.Phase == v1alpha1.PhaseFailed; gone == pc.Spec.Fence {
			t.Errorf("%s is %q", pc.Name, pc.Status.Phase)
		}
	}
}

// TestReconcileRemembersWhatIsDeleted has retention delete each attempt when it has failed: the pauses get longer all the same.
func TestReconcileRemembersWhatIsDeleted(t *testing.T) {
	w := newWorld(t, scheduled(), node(), able())
	var pauses []time.Duration
	var names []string
	for at := 10 * time.Minute; len(pauses) < 5; {
		w.at(at)
		made := w.checkpoints()
		if len(made) != 1 {
			t.Fatalf("%d checkpoints at %s, want 1", len(made), at)
		}
		names = append(names, made[0].Name)
		w.enter(made[0], v1alpha1.PhaseFailed, "criu: unsupported socket")
		w.at(at)
		if err := w.client.Delete(context.Background(), &made[0]); err != nil {
			t.Fatal(err)
		}
		pause := w.at(at + time.Second).RequeueAfter.Round(time.Minute)
		pauses = append(pauses, pause)
		at += pause
	}
	want := []time.Duration{20 * time.Minute, 40 * time.Minute, 80 * time.Minute, 80 * time.Minute, 80 * time.Minute}
	if diff := cmp.Diff(want, pauses); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
	for i, name := range names {
		if n := match.Attempt(name); n != i+1 {
			t.Errorf("attempt %d has the number %d", i+1, n)
		}
	}
	if n := len(w.events.Lines()); n != 2 {
		t.Errorf("%d events, want one on the pod and one on its owner", n)
	}
}

// TestToPods looks up whom a change of a node concerns: its pods with a schedule, and nobody else's.
func TestToPods(t *testing.T) {
	mine := scheduled()
	elsewhere := scheduled(func(p *corev1.Pod) { p.Name, p.Spec.NodeName = "elsewhere", "another" })
	without := scheduled(func(p *corev1.Pod) {
		p.Name = "without"
		delete(p.Annotations, v1alpha1.AnnotationInterval)
	})
	w := newWorld(t, mine, elsewhere, without)
	got := w.r.ToPods(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: mine.Spec.NodeName}})
	want := []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(mine)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}
