// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// replacement is what the ReplicaSet of running() creates, before it has a name.
func replacement(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := running()
	pod.Name, pod.GenerateName, pod.UID, pod.Namespace = "", "web-", "", ""
	pod.Spec.NodeName, pod.Spec.SchedulerName, pod.Status = "", corev1.DefaultSchedulerName, corev1.PodStatus{}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

// readyFrom is a Ready checkpoint of a pod of running()'s ReplicaSet.
func readyFrom(source string, readyAt time.Time, changes ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	pc := attempt(1, v1alpha1.PhaseReady, 0, func(pc *v1alpha1.PodCheckpoint) {
		pc.Name, pc.Spec.PodName, pc.Spec.PodUID = source+"-ckpt", source, types.UID("uid-"+source)
		pc.Status.Owner = match.OwnerOf(running())
		pc.Status.TemplateHash = match.TemplateHash(running())
		pc.Status.Timings = []v1alpha1.PhaseTiming{{Phase: v1alpha1.PhaseReady, Time: metav1.NewMicroTime(readyAt)}}
		pc.Status.Containers = []v1alpha1.ContainerCheckpoint{
			{Name: "main", BaseImage: "app:1", BaseImageDigest: "app@sha256:aa", ImageTag: "r/ns:" + source + ".main"},
		}
	})
	for _, c := range changes {
		c(pc)
	}
	return pc
}

func source(name, uid string, terminating bool) *corev1.Pod {
	pod := running()
	pod.Name, pod.UID = name, types.UID(uid)
	if terminating {
		pod.DeletionTimestamp, pod.Finalizers = &metav1.Time{Time: now}, []string{"test/keep"}
	}
	return pod
}

// patched is the pod as the API server would store it after the answer.
func (w *world) patched(pod *corev1.Pod, dryRun bool) *corev1.Pod {
	w.t.Helper()
	out := applied(w.t, raw(w.t, pod).Raw, w.create(pod, dryRun))
	text, err := json.Marshal(out)
	if err != nil {
		w.t.Fatal(err)
	}
	var got corev1.Pod
	if err := json.Unmarshal(text, &got); err != nil {
		w.t.Fatal(err)
	}
	return &got
}

func TestPodClaim(t *testing.T) {
	older, newer := now.Add(-time.Minute), now.Add(-time.Second)
	const first, second = "r/ns:web-a.main", "r/ns:web-b.main"
	tests := map[string]struct {
		objects []client.Object
		pod     *corev1.Pod
		dryRun  bool
		// image is that of the pod's container at the end.
		image string
	}{
		"nothing saved":         {pod: replacement(), image: "app:1"},
		"source gone":           {objects: []client.Object{readyFrom("web-a", older)}, pod: replacement(), image: first},
		"source terminating":    {objects: []client.Object{readyFrom("web-a", older), source("web-a", "uid-web-a", true)}, pod: replacement(), image: first},
		"source's name reused":  {objects: []client.Object{readyFrom("web-a", older), source("web-a", "other", false)}, pod: replacement(), image: first},
		"source still there":    {objects: []client.Object{readyFrom("web-a", older), source("web-a", "uid-web-a", false)}, pod: replacement(), image: "app:1"},
		"one source is there":   {objects: []client.Object{readyFrom("web-a", older), source("web-a", "uid-web-a", false), readyFrom("web-b", newer)}, pod: replacement(), image: second},
		"dry run":               {objects: []client.Object{readyFrom("web-a", older)}, pod: replacement(), dryRun: true, image: "app:1"},
		"changed template":      {objects: []client.Object{readyFrom("web-a", older)}, pod: replacement(func(p *corev1.Pod) { p.Spec.Containers[0].Image = "app:2" }), image: "app:2"},
		"another owner":         {objects: []client.Object{readyFrom("web-a", older)}, pod: replacement(func(p *corev1.Pod) { p.OwnerReferences[0].UID = "o2" }), image: "app:1"},
		"no owner":              {objects: []client.Object{readyFrom("web-a", older)}, pod: replacement(func(p *corev1.Pod) { p.OwnerReferences = nil }), image: "app:1"},
		"claimed by another":    {objects: []client.Object{readyFrom("web-a", older, phaseTo(v1alpha1.PhaseClaimed, "")), readyFrom("web-b", newer)}, pod: replacement(), image: second},
		"released":              {objects: []client.Object{readyFrom("web-a", older, phaseTo(v1alpha1.PhaseReleased, ""))}, pod: replacement(), image: "app:1"},
		"of another namespace":  {objects: []client.Object{readyFrom("web-a", older, func(pc *v1alpha1.PodCheckpoint) { pc.Namespace = "other" })}, pod: replacement(), image: "app:1"},
		"without images":        {objects: []client.Object{readyFrom("web-a", older, func(pc *v1alpha1.PodCheckpoint) { pc.Status.Containers = nil })}, pod: replacement(), image: "app:1"},
		"not annotated":         {objects: []client.Object{readyFrom("web-a", older)}, pod: replacement(func(p *corev1.Pod) { p.Annotations = nil }), image: "app:1"},
		"can't be checkpointed": {objects: []client.Object{readyFrom("web-a", older)}, pod: replacement(func(p *corev1.Pod) { p.Spec.HostNetwork = true }), image: "app:1"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.objects...)
			got := w.patched(tc.pod, tc.dryRun)
			if got.Spec.Containers[0].Image != tc.image {
				t.Errorf("image = %q, want %q", got.Spec.Containers[0].Image, tc.image)
			}
			claimed := 0
			for _, pc := range w.checkpoints() {
				if pc.Status.Claim == nil {
					continue
				}
				claimed++
				want := []any{pc.Name, pc.Status.Claim.ID, "true", v1alpha1.PhaseClaimed, "id-1"}
				seen := []any{
					got.Annotations["checkpoint.io/restore-from"], got.Annotations["checkpoint.io/claim"], got.Labels["checkpoint.io/restoring"],
					pc.Status.Phase, pc.Status.Claim.ID,
				}
				if diff := cmp.Diff(want, seen); diff != "" {
					t.Errorf("claim (-want +got):\n%s", diff)
				}
			}
			if restored := strings.HasPrefix(tc.image, "r/"); restored != (claimed == 1) || claimed > 1 {
				t.Errorf("%d claims", claimed)
			}
		})
	}
}

func TestPodClaimNeedsNoCallWithoutCheckpoints(t *testing.T) {
	w := newWorld(t)
	w.create(replacement(), false)
	if diff := cmp.Diff([]string(nil), w.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestPodClaimWithTheCacheBehind(t *testing.T) {
	behind := newWorld(t, readyFrom("web-a", now, phaseTo(v1alpha1.PhaseExporting, "")), readyFrom("web-b", now))
	w := newWorld(t, readyFrom("web-a", now), readyFrom("web-b", now, phaseTo(v1alpha1.PhaseReleased, "")))
	w.deps.Cached = behind.api
	if got := w.patched(replacement(), false).Spec.Containers[0].Image; got != "r/ns:web-a.main" {
		t.Errorf("image = %q, want that of the one which is Ready now", got)
	}
}

func TestPodClaimRace(t *testing.T) {
	tests := map[string]struct {
		meanwhile func(*v1alpha1.PodCheckpoint)
		// same is whether the one tried first is claimed in the end.
		same    bool
		updates int
	}{
		"another writer, still Ready": {
			meanwhile: func(pc *v1alpha1.PodCheckpoint) { pc.Status.Message = "x" }, same: true, updates: 2,
		},
		"another replica claims it": {meanwhile: phaseTo(v1alpha1.PhaseClaimed, ""), updates: 2},
		"the agent thaws":           {meanwhile: phaseTo(v1alpha1.PhaseReleased, ""), updates: 2},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, readyFrom("web-a", now), readyFrom("web-b", now.Add(time.Second)))
			var tried string
			w.before = func(verb string, obj client.Object) error {
				if verb == "update status" {
					w.before = func(string, client.Object) error { return nil }
					tried = obj.GetName()
					w.change(tried, tc.meanwhile)
				}
				return nil
			}
			from := w.patched(replacement(), false).Annotations[v1alpha1.AnnotationRestoreFrom]
			if from == "" || (from == tried) != tc.same {
				t.Errorf("it starts from %q after %q was tried", from, tried)
			}
			if n := w.count("update status"); n != tc.updates {
				t.Errorf("%d updates, want %d", n, tc.updates)
			}
		})
	}
}

func TestPodClaimTroubleWithTheAPI(t *testing.T) {
	for _, verb := range []string{"get", "update status"} {
		t.Run(verb, func(t *testing.T) {
			w := newWorld(t, readyFrom("web-a", now))
			w.before = func(v string, _ client.Object) error {
				if v == verb {
					return errors.New("broken")
				}
				return nil
			}
			got := w.patched(replacement(), false)
			if got.Spec.Containers[0].Image != "app:1" || got.Labels[v1alpha1.LabelEnabled] != "true" {
				t.Errorf("pod = %+v, want one that starts cold and is opted in", got)
			}
		})
	}
}

func TestPodClaimEvents(t *testing.T) {
	w := newWorld(t, readyFrom("web-a", now))
	w.create(replacement(), false)
	const note = " CheckpointClaimed: Pod web-a is replaced by one that starts from its checkpoint; waiting for it to be restored"
	if diff := cmp.Diff([]string{"PodCheckpoint" + note, "ReplicaSet" + note}, w.events.all()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestPodReinvocation(t *testing.T) {
	w := newWorld(t, readyFrom("web-a", time.Now()), readyFrom("web-b", time.Now()))
	once := w.patched(replacement(), false)
	once.Spec.InitContainers = append(once.Spec.InitContainers, corev1.Container{Name: "injected", Image: "mesh:1"})
	got := w.patched(once, false)
	if got.Annotations[v1alpha1.AnnotationClaim] != once.Annotations[v1alpha1.AnnotationClaim] {
		t.Errorf("claim %q became %q", once.Annotations[v1alpha1.AnnotationClaim], got.Annotations[v1alpha1.AnnotationClaim])
	}
	if diff := cmp.Diff(once.Spec.Containers, got.Spec.Containers); diff != "" {
		t.Errorf("containers (-first +second):\n%s", diff)
	}
	if diff := cmp.Diff(once.Spec.Volumes, got.Spec.Volumes); diff != "" {
		t.Errorf("volumes (-first +second):\n%s", diff)
	}
	if n := w.count("update status"); n != 1 {
		t.Errorf("%d claims, want 1", n)
	}
}

func TestPodForged(t *testing.T) {
	claimed := func(change func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
		pc := readyFrom("web-a", now, phaseTo(v1alpha1.PhaseClaimed, ""))
		pc.Status.Claim = &v1alpha1.Claim{ID: "id-7", User: replicaSets, Time: metav1.NowMicro()}
		change(pc)
		return pc
	}
	forge := func(p *corev1.Pod) {
		p.Annotations[v1alpha1.AnnotationRestoreFrom], p.Annotations[v1alpha1.AnnotationClaim] = "web-a-ckpt", "id-7"
		p.Annotations[v1alpha1.AnnotationBaseImages] = `{"main":"app:1"}`
		p.Annotations[v1alpha1.AnnotationFellBack] = "x"
		p.Annotations[v1alpha1.AnnotationTemplateHash] = "forged"
		p.Labels[v1alpha1.LabelRestoring] = "true"
		p.Spec.Containers[0].Image = "r/ns:web-a.main"
	}
	tests := map[string]*v1alpha1.PodCheckpoint{
		"no such checkpoint": claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Name = "another" }),
		"another claim":      claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim.ID = "id-8" }),
		"bound":              claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim.PodUID = "p9" }),
		"of a named pod":     claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim.PodName = "web-9" }),
		"of long ago": claimed(func(pc *v1alpha1.PodCheckpoint) {
			pc.Status.Claim.Time = metav1.NewMicroTime(time.Now().Add(-time.Minute))
		}),
		"restored":         claimed(phaseTo(v1alpha1.PhaseRestored, "")),
		"of another user":  claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Claim.User = "system:kube-controller-manager" }),
		"of another owner": claimed(func(pc *v1alpha1.PodCheckpoint) { pc.Status.Owner.UID = "o2" }),
	}
	for name, pc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, pc)
			got := w.patched(replacement(forge), false)
			for _, key := range []string{"restore-from", "claim", "base-images", "fell-back"} {
				if v, ok := got.Annotations["checkpoint.io/"+key]; ok {
					t.Errorf("annotation %s = %q is left", key, v)
				}
			}
			if got.Annotations[v1alpha1.AnnotationTemplateHash] == "forged" || got.Labels[v1alpha1.LabelRestoring] != "" {
				t.Errorf("template hash %q, label %q", got.Annotations[v1alpha1.AnnotationTemplateHash], got.Labels[v1alpha1.LabelRestoring])
			}
		})
	}
	t.Run("genuine", func(t *testing.T) {
		w := newWorld(t, claimed(func(*v1alpha1.PodCheckpoint) {}))
		got := w.patched(replacement(forge), false)
		if got.Annotations[v1alpha1.AnnotationClaim] != "id-7" || got.Annotations[v1alpha1.AnnotationTemplateHash] != match.TemplateHash(running()) {
			t.Errorf("annotations = %v", got.Annotations)
		}
	})
}

func TestPodSchedulerAndWarnings(t *testing.T) {
	tests := map[string]struct {
		ready     bool
		pod       *corev1.Pod
		scheduler string
		warnings  []string
	}{
		"scheduler there": {ready: true, pod: replacement(), scheduler: "cryopod-scheduler"},
		"scheduler away":  {pod: replacement(), scheduler: "default-scheduler"},
		"bad durations": {
			pod: replacement(annotate(v1alpha1.AnnotationDeadline, "soon"), annotate(v1alpha1.AnnotationMaxFreeze, "0s")), scheduler: "default-scheduler",
			warnings: []string{
				`annotation "checkpoint.io/deadline": "soon" is no duration above 0, such as 90s; 2m0s is used`,
				`annotation "checkpoint.io/max-freeze": "0s" is no duration above 0, such as 90s; 1m0s is used`,
			},
		},
		"never checkpointable": {
			ready: true, pod: replacement(func(p *corev1.Pod) { p.OwnerReferences[0].Kind = "DaemonSet" }), scheduler: "default-scheduler",
			warnings: []string{"the pod can't be checkpointed: it belongs to a DaemonSet, whose pods stay with their nodes"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.options.SchedulerReady = func(context.Context) bool { return tc.ready }
			resp := w.create(tc.pod, false)
			if diff := cmp.Diff(tc.warnings, resp.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			if got := w.patched(tc.pod, false).Spec.SchedulerName; got != tc.scheduler {
				t.Errorf("scheduler = %q, want %q", got, tc.scheduler)
			}
		})
	}
}

// TestPodPatchKeepsUnknownFields sends a field that these API types lack, as a newer API server may.
func TestPodPatchKeepsUnknownFields(t *testing.T) {
	w := newWorld(t, readyFrom("web-a", now))
	var sent map[string]any
	if err := json.Unmarshal(raw(t, replacement()).Raw, &sent); err != nil {
		t.Fatal(err)
	}
	main := sent["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
	main["fieldOfTomorrow"] = "kept"
	var req = raw(t, sent)
	h := admission.NewPodCreate(w.deps, w.options, func() string { return "id" })
	out := applied(t, req.Raw, h.Handle(t.Context(), request(req)))
	main = out["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
	if diff := cmp.Diff([]any{"kept", "r/ns:web-a.main"}, []any{main["fieldOfTomorrow"], main["image"]}); diff != "" {
		t.Errorf("container (-want +got):\n%s", diff)
	}
}
