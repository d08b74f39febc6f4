// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func TestReady(t *testing.T) {
	n := newNode(t, func(_ *v1alpha1.PodCheckpoint, pod *corev1.Pod) {
		pod.Annotations = map[string]string{
			v1alpha1.AnnotationTemplateHash: "hash", v1alpha1.AnnotationBaseImages: `{"app":"base:1"}`,
		}
	})
	result := n.live(0).save()
	pc := n.checkpoint()
	want := v1alpha1.PodCheckpointStatus{
		Phase:        v1alpha1.PhaseReady,
		Owner:        &v1alpha1.Owner{UID: "rs-uid", APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web"},
		TemplateHash: "hash",
		Requirements: &v1alpha1.Requirements{Arch: "amd64"},
		Containers: []v1alpha1.ContainerCheckpoint{
			{Name: "side", BaseImage: "side:1", BaseImageDigest: "side@sha256:aa", Image: "reg/ns@sha256:side", ImageTag: "reg/ns:web-1.side", Bytes: 2 << 20, PushedBytes: 1 << 20},
			{Name: "app", BaseImage: "base:1", BaseImageDigest: "app@sha256:bb", Image: "reg/ns@sha256:app", ImageTag: "reg/ns:web-1.app", Bytes: 2 << 20, PushedBytes: 1 << 20},
		},
	}
	got := pc.Status
	var phases []v1alpha1.Phase
	for _, timing := range got.Timings {
		phases = append(phases, timing.Phase)
	}
	got.Timings, got.Conditions, got.Message = nil, nil, ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	wantPhases := []v1alpha1.Phase{v1alpha1.PhaseFreezing, v1alpha1.PhaseDumping, v1alpha1.PhaseExporting, v1alpha1.PhaseReady}
	if diff := cmp.Diff(wantPhases, phases); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	if n.state() != "frozen" || result.RequeueAfter <= 0 || result.RequeueAfter > 30*time.Second {
		t.Errorf("the pod is %s and looked at again in %s", n.state(), result.RequeueAfter)
	}
	if diff := cmp.Diff([]string{"CheckpointStarted", "CheckpointReady"}, n.reasons()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		mutate func(*v1alpha1.PodCheckpoint, *corev1.Pod)
		want   string
		gone   bool
	}{
		"another pod of the name": {func(_ *v1alpha1.PodCheckpoint, p *corev1.Pod) { p.UID = "other" }, "replaced by another one", true},
		"no pod":                  {func(pc *v1alpha1.PodCheckpoint, _ *corev1.Pod) { pc.Spec.PodName = "missing" }, "is gone", true},
		"the pod is being deleted": {func(_ *v1alpha1.PodCheckpoint, p *corev1.Pod) {
			p.DeletionTimestamp, p.Finalizers = new(metav1.NewTime(start)), []string{"x/y"}
		}, "already being deleted", true},
		"another node": {func(_ *v1alpha1.PodCheckpoint, p *corev1.Pod) { p.Spec.NodeName = "node-2" }, `runs on node "node-2"`, false},
		"nothing runs": {func(_ *v1alpha1.PodCheckpoint, p *corev1.Pod) {
			p.Status.InitContainerStatuses, p.Status.ContainerStatuses = nil, nil
		}, "no container", false},
		"still initializing": {func(_ *v1alpha1.PodCheckpoint, p *corev1.Pod) { p.Spec.InitContainers[0].RestartPolicy = nil }, "not initialized yet", false},
		"an unknown runtime": {func(_ *v1alpha1.PodCheckpoint, p *corev1.Pod) {
			p.Status.ContainerStatuses[0].ContainerID = "cri-o://abc"
		}, "only containerd", false},
		"a probe that is too strict": {func(_ *v1alpha1.PodCheckpoint, p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe = liveness(1, 1, 1)
		}, "too short for a checkpoint: raise its failureThreshold", false},
		"a container that is not there": {func(pc *v1alpha1.PodCheckpoint, _ *corev1.Pod) { pc.Spec.Containers = []string{"db"} }, `"db"`, false},
		"the deadline is over": {func(pc *v1alpha1.PodCheckpoint, _ *corev1.Pod) {
			pc.Spec.Deadline = new(metav1.NewTime(start))
		}, "deadline is over", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, tc.mutate)
			n.live(0).step()
			pc := n.checkpoint()
			if pc.Status.Phase != v1alpha1.PhaseFailed || !strings.Contains(pc.Status.Message, tc.want) {
				t.Errorf("%s: %q, want Failed with %q", pc.Status.Phase, pc.Status.Message, tc.want)
			}
			reason := "CheckpointFailed"
			if name == "the deadline is over" {
				reason = v1alpha1.ReasonNoTime
			}
			if c := meta.FindStatusCondition(pc.Status.Conditions, v1alpha1.ConditionReady); c == nil || c.Reason != reason {
				t.Errorf("condition %+v, want the reason %s", c, reason)
			}
			if got := n.state(); got != "running" {
				t.Errorf("the pod is %s", got)
			}
			next := "the pod goes on here"
			if tc.gone {
				next = "its replacement starts cold"
			}
			want := []string{"CheckpointFailed: Checkpoint failed (" + pc.Status.Message + "); " + next}
			if diff := cmp.Diff(want, n.events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	tests := map[string]string{"freeze": "freezing container", "dump": `container "`, "export": `container "`}
	for effect, want := range tests {
		t.Run(effect, func(t *testing.T) {
			n := newNode(t, nil)
			a := n.live(0)
			a.failOn[effect] = errors.New("criu: inet: Unsupported proto 262")
			a.save()
			check(t, n)
			if got := a.Causes(); got != 0 {
				t.Errorf("%d failures are remembered for ever", got)
			}
			message := n.checkpoint().Status.Message
			if !strings.Contains(message, want) || !strings.Contains(message, "criu: inet: Unsupported proto 262") {
				t.Errorf("message %q", message)
			}
			if diff := cmp.Diff([]string{"CheckpointStarted", "CheckpointFailed"}, n.reasons()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNotTheLastWord fails a checkpoint during whose export the pod did not stay as it was frozen.
func TestNotTheLastWord(t *testing.T) {
	tests := map[string]struct {
		meanwhile func(*node)
		want      string
	}{
		"a container was restarted": {func(n *node) { n.fence.Set("id-app", fence.Gone) }, "did not stay frozen"},
		"a container was thawed":    {func(n *node) { n.fence.Set("id-app", fence.Running) }, "did not stay frozen"},
		"the pod was deleted":       {(*node).deletePod, "was deleted while"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			a := n.live(0)
			var once sync.Once
			a.meanwhile = func() { once.Do(func() { tc.meanwhile(n) }) }
			a.save()
			pc := n.checkpoint()
			if pc.Status.Phase != v1alpha1.PhaseFailed || !strings.Contains(pc.Status.Message, tc.want) {
				t.Errorf("%s: %q, want Failed with %q", pc.Status.Phase, pc.Status.Message, tc.want)
			}
			if n.state() == "frozen" || n.fence.Get("id-side") != fence.Running {
				t.Errorf("the pod is %s, its sidecar %v", n.state(), n.fence.Get("id-side"))
			}
		})
	}
}

func TestFrozenForTooLong(t *testing.T) {
	strict := func(_ *v1alpha1.PodCheckpoint, pod *corev1.Pod) {
		pod.Spec.Containers[0].LivenessProbe = liveness(5, 1, 3)
	}
	tests := map[string]struct {
		mutate        func(*v1alpha1.PodCheckpoint, *corev1.Pod)
		after         time.Duration
		phase         v1alpha1.Phase
		reason        string
		want, whatNow string
	}{
		"max freeze": {nil, time.Minute, v1alpha1.PhaseReleased, v1alpha1.ReasonMaxFreeze,
			"stood still for 1m0s and its checkpoint was not durable; the annotation checkpoint.io/max-freeze", "CheckpointReleased"},
		"a liveness probe": {strict, 10 * time.Second, v1alpha1.PhaseReleased, v1alpha1.ReasonMaxFreeze,
			`liveness probe of container "app" (HTTP every 5s, timeout 1s, 3 failures) would have restarted it at 11s`, "CheckpointReleased"},
		"deadline": {func(pc *v1alpha1.PodCheckpoint, _ *corev1.Pod) {
			pc.Spec.Deadline = new(metav1.NewTime(start.Add(10 * time.Second)))
		}, 10 * time.Second, v1alpha1.PhaseFailed, "CheckpointFailed", "deadline is over", "CheckpointFailed"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, tc.mutate)
			a := n.live(0)
			hanging := &hangingDumper{began: make(chan struct{}, 2)}
			a.Dumper = hanging
			a.step()
			await(a, hanging.began)
			if result := a.step(); result.RequeueAfter > time.Second || n.state() != "frozen" {
				t.Errorf("while it is dumped: %+v, %s", result, n.state())
			}
			n.clock.Step(tc.after - time.Millisecond)
			if got := n.checkpoint().Status.Phase; got.Final() {
				t.Errorf("%s before its time", got)
			}
			n.clock.Step(time.Millisecond)
			await(a, a.woken)
			check(t, n)
			status := n.checkpoint().Status
			ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
			if status.Phase != tc.phase || ready == nil || ready.Reason != tc.reason || !strings.Contains(status.Message, tc.want) {
				t.Errorf("%s with %+v, want %s, %s and %q", status.Phase, ready, tc.phase, tc.reason, tc.want)
			}
			if diff := cmp.Diff([]string{"CheckpointStarted", tc.whatNow}, n.reasons()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTakenAway has somebody else end the checkpoint while it is dumped.
func TestTakenAway(t *testing.T) {
	n := newNode(t, nil)
	a := n.live(0)
	hanging := &hangingDumper{began: make(chan struct{}, 2)}
	a.Dumper = hanging
	a.step()
	await(a, hanging.began)
	n.patchStatus(func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Phase, pc.Status.Message = v1alpha1.PhaseFailed, "the deadline is over"
	})
	a.step()
	await(a, a.woken)
	a.step()
	check(t, n)
	if got := n.checkpoint().Status.Message; got != "the deadline is over" {
		t.Errorf("the agent overwrote what somebody else decided: %q", got)
	}
}

// TestAPIServerAway thaws a pod whose checkpoint can't be written down as failed, as long as Ready was never sent.
func TestAPIServerAway(t *testing.T) {
	away := apierrors.NewServiceUnavailable("away")
	tests := map[string]struct {
		fail []string
		want string
	}{
		"before Ready was sent": {[]string{"write Dumping", "write Failed"}, "running"},
		"Ready was sent":        {[]string{"write Ready", "write Released"}, "frozen"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nil)
			a := n.live(0)
			a.Fence = n.fence // The rule of mortalFence has this one exception.
			for _, effect := range tc.fail {
				a.failOn[effect] = away
			}
			a.step()
			await(a, a.woken)
			if got := n.state(); got != tc.want {
				t.Errorf("the pod is %s, want %s", got, tc.want)
			}
			clear(a.failOn)
			a.step()
			check(t, n)
		})
	}
}

func TestFence(t *testing.T) {
	strict := func(_ *v1alpha1.PodCheckpoint, pod *corev1.Pod) {
		pod.Spec.Containers[0].LivenessProbe = liveness(5, 1, 3)
	}
	tests := map[string]struct {
		mutate func(*v1alpha1.PodCheckpoint, *corev1.Pod)
		then   func(*node)
		after  time.Duration
		phase  v1alpha1.Phase
		state  string
	}{
		"nobody deletes the pod":     {nil, func(*node) {}, 30 * time.Second, v1alpha1.PhaseReleased, "running"},
		"there is time left":         {nil, func(*node) {}, 29 * time.Second, v1alpha1.PhaseReady, "frozen"},
		"the pod is deleted":         {nil, (*node).deletePod, time.Hour, v1alpha1.PhaseReady, "frozen"},
		"the kubelet restarted one":  {nil, func(n *node) { n.fence.Set("id-app", fence.Gone) }, time.Second, v1alpha1.PhaseReleased, "mixed"},
		"a liveness probe bounds it": {strict, func(*node) {}, 10 * time.Second, v1alpha1.PhaseReleased, "running"},
		"it does not yet":            {strict, func(*node) {}, 10*time.Second - 1, v1alpha1.PhaseReady, "frozen"},
		"no fence is wanted": {func(pc *v1alpha1.PodCheckpoint, _ *corev1.Pod) { pc.Spec.Fence = false },
			func(*node) {}, 0, v1alpha1.PhaseReady, "running"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, tc.mutate)
			a := n.live(0)
			a.save()
			tc.then(n)
			n.clock.Step(tc.after)
			a.step()
			if got := n.checkpoint().Status.Phase; got != tc.phase || n.state() != tc.state {
				t.Errorf("%s and %s, want %s and %s", got, n.state(), tc.phase, tc.state)
			}
		})
	}
}

// TestReleaseLosesAgainstClaim has the claim written between the agent's look at the checkpoint and its release.
func TestReleaseLosesAgainstClaim(t *testing.T) {
	n := newNode(t, nil)
	a := n.live(0)
	a.save()
	n.clock.Step(time.Minute)
	a.failOn["write Released"] = apierrors.NewConflict(schema.GroupResource{Resource: "podcheckpoints"}, key.Name, errors.New("claimed"))
	if result := a.step(); result.RequeueAfter == 0 || n.state() != "frozen" {
		t.Errorf("after a conflict: %+v, %s; want another look and a frozen pod", result, n.state())
	}
}

// TestFrozenByOthers leaves a container frozen that somebody else had frozen before.
func TestFrozenByOthers(t *testing.T) {
	n := newNode(t, nil)
	n.fence.Set("id-side", fence.Frozen)
	a := n.live(0)
	a.failOn["dump"] = errors.New("no")
	a.save()
	if n.fence.Get("id-app") != fence.Running || n.fence.Get("id-side") != fence.Frozen {
		t.Errorf("app is %v, side is %v; want only what was frozen by us to run", n.fence.Get("id-app"), n.fence.Get("id-side"))
	}
}

// TestQueue tells the webhook that the agent is there, when other pods of the node are saved first.
func TestQueue(t *testing.T) {
	n := newNode(t, nil)
	other := n.checkpoint()
	other.ObjectMeta = metav1.ObjectMeta{Namespace: key.Namespace, Name: "other-1", UID: "pc-2"}
	other.Spec.PodName, other.Spec.PodUID = "other", "pod-2"
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: "other", UID: "pod-2"},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
		Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{running("app", "app@sha256:bb")}},
	}
	for _, o := range []client.Object{other, pod} {
		if err := n.api.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	a := n.live(0)
	hanging := &hangingDumper{began: make(chan struct{}, 2)}
	a.Dumper = hanging
	a.step()
	await(a, hanging.began)
	for range 2 {
		result, err := a.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(other)})
		if err != nil || result.RequeueAfter == 0 {
			t.Fatalf("Reconcile = %+v, %v; want another look", result, err)
		}
	}
	if err := n.api.Get(t.Context(), client.ObjectKeyFromObject(other), other); err != nil {
		t.Fatal(err)
	}
	if got := other.Status; got.Phase != v1alpha1.PhasePending || !strings.Contains(got.Message, "its turn") || len(got.Timings) != 0 {
		t.Errorf("status %+v, want Pending with the reason", got)
	}
	a.Stop(t.Context())
}

// TestTriesAgainSoon bounds how long a frozen pod waits for its thaw after containerd or the API server was away for long.
func TestTriesAgainSoon(t *testing.T) {
	limiter := source.RateLimiter()
	var pause time.Duration
	for range 100 {
		pause = limiter.When(ctrl.Request{NamespacedName: key})
	}
	if pause <= 0 || pause > 5*time.Second {
		t.Errorf("after 100 failures the agent pauses for %s", pause)
	}
}
