// SPDX-License-Identifier: Apache-2.0

package restore_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/restore"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/metrics"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// claimed is a PodCheckpoint of two containers that the pod of podRestoring has claimed.
func claimed(change ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1"},
		Spec:       v1alpha1.PodCheckpointSpec{PodName: "cart-old", PodUID: "old", Reason: v1alpha1.ReasonEviction},
		Status: v1alpha1.PodCheckpointStatus{
			Phase: v1alpha1.PhaseClaimed,
			Owner: &v1alpha1.Owner{UID: "rs", APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart"},
			Claim: &v1alpha1.Claim{ID: "c1", Time: metav1.NewMicroTime(start)},
			Containers: []v1alpha1.ContainerCheckpoint{
				{Name: "app", BaseImage: "app:1", ImageTag: "registry/shop:cart-1.app"},
				{Name: "proxy", BaseImage: "proxy:1", ImageTag: "registry/shop:cart-1.proxy"},
			},
		},
	}
	for _, f := range change {
		f(pc)
	}
	return pc
}

func phase(p v1alpha1.Phase) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) { pc.Status.Phase = p }
}

// replacement is the pod that claimed cart-1, as package inject makes it: a sidecar, a container that is not in the checkpoint, and
// one that is. It has no status yet.
func replacement(change ...func(*corev1.Pod)) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	pod := inject.Restore(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "cart-new", UID: "new",
			Labels:          map[string]string{v1alpha1.LabelEnabled: "true"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "cart", UID: "rs", Controller: ptr.To(true)}},
		},
		Spec: corev1.PodSpec{
			RestartPolicy:  corev1.RestartPolicyAlways,
			InitContainers: []corev1.Container{{Name: "proxy", Image: "proxy:1", RestartPolicy: &always}},
			Containers:     []corev1.Container{{Name: "app", Image: "app:1"}, {Name: "extra", Image: "extra:1"}},
		},
	}, claimed(), "c1")
	pod.Spec.NodeName = "node-2"
	for _, f := range change {
		f(pod)
	}
	return pod
}

// with puts states of the containers app and proxy into the pod's status.
func with(app, proxy corev1.ContainerStatus) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		app.Name, proxy.Name = "app", "proxy"
		pod.Status.Phase = corev1.PodRunning
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "extra"}, app}
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{proxy}
	}
}

func podPhase(p corev1.PodPhase) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Status.Phase = p }
}

// unplaced is as the scheduler leaves a pod that it has given up.
func unplaced(why string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.NodeName = ""
		pod.Status.Conditions = []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable},
			{Type: v1alpha1.PodConditionRestorePlaced, Status: corev1.ConditionFalse, Reason: v1alpha1.ReasonNotPlaced, Message: why},
		}
	}
}

func restarts(p corev1.RestartPolicy) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.RestartPolicy = p }
}

func waiting(reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
}

func ended(code int32, reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message},
	}}
}

func running(restarts int32) corev1.ContainerStatus {
	s := corev1.ContainerStatus{RestartCount: restarts, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	if restarts > 0 {
		s.LastTerminationState = ended(139, "Error", "").State
	}
	return s
}

var creating = waiting("ContainerCreating", "")

type judgement struct {
	pc   *v1alpha1.PodCheckpoint
	pod  *corev1.Pod
	want restore.Verdict
}

func (j judgement) check(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(j.want, restore.Judge(j.pod, j.pc)); diff != "" {
		t.Errorf("verdict (-want +got):\n%s", diff)
	}
}

// whole is the verdict that sends both containers back.
func whole(class metrics.FallbackClass, why string) restore.Verdict {
	return restore.Verdict{Action: restore.FallBack, Containers: []string{"proxy", "app"}, Class: class, Why: why}
}

func TestJudgeWhileRestoring(t *testing.T) {
	for name, tc := range map[string]judgement{
		"not a pod of ours":     {pod: &corev1.Pod{}, pc: claimed()},
		"not started":           {pod: replacement(), pc: claimed()},
		"containers on the way": {pod: replacement(with(creating, creating)), pc: claimed()},
		"one runs":              {pod: replacement(with(running(0), creating)), pc: claimed()},
		"all run": {
			pod: replacement(with(running(0), running(0))), pc: claimed(),
			want: restore.Verdict{Action: restore.WriteRestored},
		},
		"one has done its work meanwhile": {
			pod: replacement(restarts(corev1.RestartPolicyOnFailure), with(ended(0, "Completed", ""), running(0))), pc: claimed(),
			want: restore.Verdict{Action: restore.WriteRestored},
		},
		"the image can't be pulled": {
			pod: replacement(with(waiting("ErrImagePull", "rpc error: code = NotFound desc = not found"), creating)), pc: claimed(),
			want: whole(metrics.FallbackPull, `container "app": not found`),
		},
		"the sidecar can't be created": {
			pod: replacement(with(creating, waiting("CreateContainerError", "checkpoint restore is disabled"))), pc: claimed(),
			want: whole(metrics.FallbackCreate, `container "proxy": checkpoint restore is disabled`),
		},
		"a failure without a message": {
			pod: replacement(with(waiting("CreateContainerError", ""), creating)), pc: claimed(),
			want: whole(metrics.FallbackCreate, `container "app": CreateContainerError`),
		},
		"criu fails": {
			pod: replacement(with(waiting("RunContainerError", "OCI runtime restore failed: criu failed: type NOTIFY errno 0: unknown"), running(0))),
			pc:  claimed(), want: whole(metrics.FallbackStart, `container "app": criu failed: type NOTIFY errno 0`+mute),
		},
		"criu fails, seen as the container's end": {
			pod: replacement(with(ended(128, "StartError", "failed to restore containerd task: criu failed"), running(0))),
			pc:  claimed(), want: whole(metrics.FallbackStart, `container "app": criu failed`),
		},
		"the process dies at once": {
			pod: replacement(with(ended(137, "OOMKilled", ""), running(0))), pc: claimed(),
			want: whole(metrics.FallbackExit, `container "app": it ended with exit code 137 (OOMKilled)`),
		},
		"it was restarted while nobody looked": {
			pod: replacement(with(running(1), running(0))), pc: claimed(),
			want: whole(metrics.FallbackExit, `container "app": it ended with exit code 139 (Error)`),
		},
		"crash loop": {
			pod: replacement(with(func() corev1.ContainerStatus {
				s := running(3)
				s.State = waiting("CrashLoopBackOff", "back-off 20s restarting failed container").State
				return s
			}(), running(0))), pc: claimed(),
			want: whole(metrics.FallbackExit, `container "app": it ended with exit code 139 (Error)`),
		},
		"a container of no checkpoint fails": {
			pod: replacement(with(running(0), running(0)), func(p *corev1.Pod) {
				p.Status.ContainerStatuses[0] = waiting("ErrImagePull", "")
				p.Status.ContainerStatuses[0].Name = "extra"
			}), pc: claimed(),
			want: restore.Verdict{Action: restore.WriteRestored},
		},
		"the pod is being deleted": {
			pod: replacement(with(ended(137, "Error", ""), running(0)), func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: start} }),
			pc:  claimed(),
		},
		"a pod that is never restarted failed": {
			pod: replacement(restarts(corev1.RestartPolicyNever), with(ended(1, "Error", ""), running(0)), podPhase(corev1.PodFailed)),
			pc:  claimed(), want: restore.Verdict{Action: restore.WriteFailed, Why: `container "app": it ended with exit code 1 (Error)`},
		},
		"no node can restore it": {
			pod: replacement(unplaced("no node can restore it: 2 old CPUs")), pc: claimed(),
			want: whole(metrics.FallbackPlacement, "no node can restore it: 2 old CPUs"),
		},
		"no node could, and one tries": {
			pod: replacement(unplaced("no node can restore it"), func(p *corev1.Pod) { p.Spec.NodeName = "node-2" }), pc: claimed(),
		},
		"fell back, not noted yet": {
			pod: restore.Cold(replacement(with(creating, creating)), []string{"app", "proxy"}, "criu failed"), pc: claimed(),
			want: restore.Verdict{Action: restore.WriteFailed, Why: "criu failed"},
		},
		"fell back, noted": {
			pod: restore.Cold(replacement(with(creating, creating)), []string{"app", "proxy"}, "criu failed"),
			pc:  claimed(phase(v1alpha1.PhaseFailed)),
		},
	} {
		t.Run(name, tc.check)
	}
}

func TestJudgeAfterTheRestore(t *testing.T) {
	restored := claimed(phase(v1alpha1.PhaseRestored))
	crash := func(why string, names ...string) restore.Verdict {
		return restore.Verdict{Action: restore.FallBack, Containers: names, Class: metrics.FallbackCrash, Why: why}
	}
	for name, tc := range map[string]judgement{
		"runs on": {pod: replacement(with(running(0), running(0))), pc: restored},
		"one crashed": {
			pod: replacement(with(ended(139, "Error", ""), running(0))), pc: restored,
			want: crash(`container "app": it ended with exit code 139 (Error) after its restore`, "app"),
		},
		"one crashed and was restarted from the checkpoint": {
			pod: replacement(with(running(1), running(0))), pc: restored,
			want: crash(`container "app": it ended with exit code 139 (Error) after its restore`, "app"),
		},
		"the second one crashed too": {
			pod: restore.Cold(replacement(with(running(1), running(1))), []string{"app"}, "first"), pc: restored,
			want: crash(`container "proxy": it ended with exit code 139 (Error) after its restore`, "proxy"),
		},
		"one ended by itself and would be started again": {
			pod: replacement(with(ended(0, "Completed", ""), running(0))), pc: restored,
			want: crash(`container "app": it ended with exit code 0 after its restore`, "app"),
		},
		"one ended by itself, for good": {
			pod: replacement(restarts(corev1.RestartPolicyOnFailure), with(ended(0, "Completed", ""), running(0))), pc: restored,
		},
		"one crashed, for good": {
			pod: replacement(restarts(corev1.RestartPolicyNever), with(ended(1, "Error", ""), running(0))), pc: restored,
		},
		"the pod has ended": {
			pod: replacement(with(ended(1, "Error", ""), ended(1, "Error", "")), podPhase(corev1.PodFailed)), pc: restored,
		},
		"the PodCheckpoint was removed since": {pod: replacement(with(running(0), running(0)))},
		"the PodCheckpoint was removed and one crashed": {
			pod:  replacement(with(ended(1, "Error", ""), running(0))),
			want: crash(`container "app": it ended with exit code 1 (Error) after its restore`, "app"),
		},
	} {
		t.Run(name, tc.check)
	}
}

func TestJudgeClaims(t *testing.T) {
	notClaimed := whole(metrics.FallbackClaim, `PodCheckpoint "cart-1" is not claimed by this pod`)
	for name, tc := range map[string]judgement{
		"claimed by another": {
			pod: replacement(with(running(0), running(0))), pc: claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim.ID = "c2" }),
			want: notClaimed,
		},
		"bound to another pod with the same claim": {
			pod: replacement(), pc: claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim.PodUID = "twin" }),
			want: notClaimed,
		},
		"given back": {
			pod:  replacement(with(creating, creating)),
			pc:   claimed(phase(v1alpha1.PhaseReady), func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim = nil }),
			want: notClaimed,
		},
		"gone before anything ran": {
			pod: replacement(with(creating, creating)), want: whole(metrics.FallbackClaim, `PodCheckpoint "cart-1" is gone`),
		},
		"bound to this pod": {
			pod: replacement(with(running(0), running(0))), pc: claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim.PodUID = "new" }),
			want: restore.Verdict{Action: restore.WriteRestored},
		},
	} {
		t.Run(name, tc.check)
	}
}

func TestCold(t *testing.T) {
	images := func(pod *corev1.Pod) []string {
		return []string{pod.Spec.InitContainers[0].Image, pod.Spec.Containers[0].Image, pod.Spec.Containers[1].Image}
	}
	pod := replacement()
	before := pod.DeepCopy()

	one := restore.Cold(pod, []string{"app"}, "first")
	if diff := cmp.Diff([]string{"registry/shop:cart-1.proxy", "app:1", "extra:1"}, images(one)); diff != "" {
		t.Errorf("images after one container (-want +got):\n%s", diff)
	}
	both := restore.Cold(one, []string{"proxy"}, "second")
	if diff := cmp.Diff([]string{"proxy:1", "app:1", "extra:1"}, images(both)); diff != "" {
		t.Errorf("images after both (-want +got):\n%s", diff)
	}
	if got := both.Annotations[v1alpha1.AnnotationFellBack]; got != "second" {
		t.Errorf("annotation = %q, want the latest reason", got)
	}
	if diff := cmp.Diff(before, pod); diff != "" {
		t.Errorf("the pod given was changed:\n%s", diff)
	}
}
