// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// onSchedule is a Ready checkpoint of the pod that was made while it ran on.
func onSchedule(pod string, n int, changes ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	return readyFrom(pod, time.Now().Add(-4*time.Minute), append([]func(*v1alpha1.PodCheckpoint){func(pc *v1alpha1.PodCheckpoint) {
		of := running(func(p *corev1.Pod) { p.Name, p.UID = pod, types.UID("uid-"+pod) })
		pc.Name, pc.Labels[v1alpha1.LabelPodUID] = match.Name(of, n), string(of.UID)
		pc.Spec.Fence, pc.Spec.Reason = false, v1alpha1.ReasonSchedule
		pc.Status.Timings = append([]v1alpha1.PhaseTiming{{
			Phase: v1alpha1.PhaseFreezing, Time: metav1.NewMicroTime(time.Now().Add(-4*time.Minute - 12*time.Second)),
		}}, pc.Status.Timings...)
	}}, changes...)...)
}

func keepsFrozen(pc *v1alpha1.PodCheckpoint) {
	pc.Spec.Fence, pc.Spec.Reason = true, v1alpha1.ReasonEviction
}

func lostSource(is metav1.ConditionStatus) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Conditions = append(pc.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionSourceLost, Status: is, Reason: "Test", LastTransitionTime: metav1.NewTime(now),
		})
	}
}

// dying is the checkpointed pod, deleted a moment ago.
func dying(name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := source(name, "uid-"+name, true)
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = ptr.To(metav1.NewTime(time.Now().Add(30*time.Second))), ptr.To(int64(30))
	for _, c := range changes {
		c(pod)
	}
	return pod
}

// collected is what Kubernetes's collector of orphaned pods has written.
func collected(p *corev1.Pod) {
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds, p.Finalizers = nil, nil, nil
	p.Status.Phase = corev1.PodFailed
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC", LastTransitionTime: metav1.Now(),
	})
}

func n1(ready corev1.ConditionStatus, taints ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	for _, key := range taints {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute})
	}
	return n
}

func silentNode() *corev1.Node { return n1(corev1.ConditionUnknown, corev1.TaintNodeUnreachable) }

func offNode() *corev1.Node {
	return n1(corev1.ConditionUnknown, corev1.TaintNodeUnreachable, corev1.TaintNodeOutOfService)
}

// other is another pod of the ReplicaSet, made that long ago.
func other(ago time.Duration, changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := source("web-z", "uid-z", false)
	pod.CreationTimestamp = metav1.NewTime(time.Now().Add(-ago))
	for _, c := range changes {
		c(pod)
	}
	return pod
}

// TestPodClaimOnSchedule has what the handler can tell by itself: it claims at once, or starts the pod cold at once.
func TestPodClaimOnSchedule(t *testing.T) {
	const a, cold = "r/ns:web-a.main", "app:1"
	type objects = []client.Object
	for name, tc := range map[string]struct {
		objects func() objects
		image   string
		from    int // the attempt whose checkpoint is claimed
	}{
		"the leader has seen it go": {image: a, from: 1, objects: func() objects {
			return objects{onSchedule("web-a", 1, lostSource(metav1.ConditionTrue))}
		}},
		"the leader has seen it end otherwise": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1, lostSource(metav1.ConditionFalse), phaseTo(v1alpha1.PhaseExpired, ""))}
		}},
		"its pod runs": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), source("web-a", "uid-web-a", false), n1(corev1.ConditionTrue)}
		}},
		"its pod runs, the node is silent": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), source("web-a", "uid-web-a", false), silentNode()}
		}},
		"its pod runs, the node is off": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), source("web-a", "uid-web-a", false), offNode()}
		}},
		"its pod runs, the node object is gone": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), source("web-a", "uid-web-a", false)}
		}},
		"evicted from a healthy node": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), dying("web-a"), n1(corev1.ConditionTrue)}
		}},
		"deleted on a silent node": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), dying("web-a"), silentNode()}
		}},
		"gone from a silent node": {image: cold, objects: func() objects { return objects{onSchedule("web-a", 1), silentNode()} }},
		"gone from a healthy one": {image: cold, objects: func() objects { return objects{onSchedule("web-a", 1), n1(corev1.ConditionTrue)} }},
		"deleted on a node that is off": {image: a, from: 1, objects: func() objects {
			return objects{onSchedule("web-a", 1), dying("web-a"), offNode()}
		}},
		"deleted on a node that is off, but answers": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), dying("web-a"), n1(corev1.ConditionTrue, corev1.TaintNodeOutOfService)}
		}},
		"being collected": {image: a, from: 1, objects: func() objects {
			return objects{onSchedule("web-a", 1), dying("web-a", collected)}
		}},
		"a container was started again since": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), offNode(), dying("web-a", func(p *corev1.Pod) {
				p.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(time.Now().Add(-time.Minute))
			})}
		}},
		"another one was made before": {image: a, from: 1, objects: func() objects {
			return objects{onSchedule("web-a", 1), dying("web-a"), offNode(), other(time.Hour)}
		}},
		"the newest counts": {image: a, from: 10, objects: func() objects {
			return objects{onSchedule("web-a", 9), onSchedule("web-a", 10), dying("web-a"), offNode()}
		}},
		"a fenced one of the pod comes first": {image: a, from: 2, objects: func() objects {
			return objects{onSchedule("web-a", 1), onSchedule("web-a", 2, keepsFrozen), dying("web-a"), offNode()}
		}},
		"a fenced one is claimed": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), onSchedule("web-a", 2, keepsFrozen, held), dying("web-a"), offNode()}
		}},
		"a fenced one was claimed, and failed": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), onSchedule("web-a", 2, keepsFrozen, held, phaseTo(v1alpha1.PhaseFailed, "")), dying("web-a"), offNode()}
		}},
		"a newer one was claimed": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1), onSchedule("web-a", 2, held), dying("web-a"), offNode()}
		}},
		"a fenced one failed": {image: a, from: 1, objects: func() objects {
			return objects{onSchedule("web-a", 1), onSchedule("web-a", 2, keepsFrozen, phaseTo(v1alpha1.PhaseFailed, "")), dying("web-a"), offNode()}
		}},
		"another template": {image: cold, objects: func() objects {
			return objects{onSchedule("web-a", 1, lostSource(metav1.ConditionTrue), func(pc *v1alpha1.PodCheckpoint) { pc.Status.TemplateHash = "x" })}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *world) {
				w := newWorld(t, tc.objects()...)
				start := time.Now()
				got := w.patched(replacement(), false)
				if image := got.Spec.Containers[0].Image; image != tc.image {
					t.Errorf("image = %q, want %q", image, tc.image)
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("it took %s", took)
				}
				want := ""
				if tc.from > 0 {
					want = match.Name(running(func(p *corev1.Pod) { p.Name, p.UID = "web-a", "uid-web-a" }), tc.from)
				}
				if from := got.Annotations[v1alpha1.AnnotationRestoreFrom]; from != want {
					t.Errorf("it starts from %q, want %q", from, want)
				}
				for _, pc := range w.checkpoints() {
					if pc.Name == want && (pc.Status.Claim == nil || !pc.Spec.Fence && !match.SourceLost(&pc)) {
						t.Errorf("%s: claim %v, source lost: %t", pc.Name, pc.Status.Claim, match.SourceLost(&pc))
					}
					if pc.Name != want && pc.Status.Claim != nil && pc.Status.Claim.ID == "id-1" {
						t.Errorf("%s is claimed too", pc.Name)
					}
				}
			})
		})
	}
}

func held(pc *v1alpha1.PodCheckpoint) {
	pc.Status.Phase, pc.Status.Claim = v1alpha1.PhaseClaimed, &v1alpha1.Claim{ID: "other"}
}

// creating starts a CREATE and returns once it waits.
func (w *world) creating() <-chan string {
	out := make(chan string, 1)
	go func() { out <- w.patched(replacement(), false).Spec.Containers[0].Image }()
	synctest.Wait()
	select {
	case image := <-out:
		w.t.Fatalf("the pod was let in at once with the image %q", image)
	default:
	}
	return out
}

// TestPodClaimWaitsForTheLeader has pods that are gone, as is their node: only the leader may have seen how they went.
func TestPodClaimWaitsForTheLeader(t *testing.T) {
	name := match.Name(running(func(p *corev1.Pod) { p.Name, p.UID = "web-a", "uid-web-a" }), 1)
	for what, tc := range map[string]struct {
		objects func() []client.Object
		word    func(*v1alpha1.PodCheckpoint) // nil: the leader says nothing
		image   string
		took    time.Duration
	}{
		"lost": {
			word: lostSource(metav1.ConditionTrue), image: "r/ns:web-a.main", took: time.Second,
		},
		"lost, the node is there but off": {
			objects: func() []client.Object { return []client.Object{onSchedule("web-a", 1), offNode()} },
			word:    lostSource(metav1.ConditionTrue), image: "r/ns:web-a.main", took: time.Second,
		},
		"ended otherwise":           {word: phaseTo(v1alpha1.PhaseExpired, ""), image: "app:1", took: time.Second},
		"claimed by somebody":       {word: held, image: "app:1", took: time.Second},
		"something else is written": {word: func(pc *v1alpha1.PodCheckpoint) { pc.Status.Message = "x" }, image: "app:1", took: 3 * time.Second},
		"not a word":                {image: "app:1", took: 3 * time.Second},
		"replaced already, perhaps; it was": {
			objects: func() []client.Object {
				return []client.Object{onSchedule("web-a", 1), dying("web-a"), offNode(), other(0)}
			},
			word: phaseTo(v1alpha1.PhaseExpired, ""), image: "app:1", took: time.Second,
		},
		"replaced already, perhaps; it was not": {
			objects: func() []client.Object {
				return []client.Object{onSchedule("web-a", 1), dying("web-a"), offNode(), other(0)}
			},
			word: lostSource(metav1.ConditionTrue), image: "r/ns:web-a.main", took: time.Second,
		},
		"replaced already, perhaps; nobody tells": {
			objects: func() []client.Object {
				return []client.Object{onSchedule("web-a", 1), dying("web-a"), offNode(), other(0)}
			},
			image: "app:1", took: 3 * time.Second,
		},
		"a fenced attempt has to be ended": {
			objects: func() []client.Object {
				return []client.Object{
					onSchedule("web-a", 1), onSchedule("web-a", 2, keepsFrozen, phaseTo(v1alpha1.PhaseExporting, "")), dying("web-a"), offNode(),
				}
			},
			word: lostSource(metav1.ConditionTrue), image: "r/ns:web-a.main", took: time.Second,
		},
		"a fenced attempt goes on": {
			objects: func() []client.Object {
				return []client.Object{
					onSchedule("web-a", 1), onSchedule("web-a", 2, keepsFrozen, phaseTo(v1alpha1.PhaseExporting, "")), dying("web-a"), offNode(),
				}
			},
			image: "app:1", took: 3 * time.Second,
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *world) {
				objects := []client.Object{onSchedule("web-a", 1)}
				if tc.objects != nil {
					objects = tc.objects()
				}
				w, start := newWorld(t, objects...), time.Now()
				answer := w.creating()
				time.Sleep(time.Second)
				if tc.word != nil {
					w.change(name, tc.word)
				}
				if image := <-answer; image != tc.image {
					t.Errorf("image = %q, want %q", image, tc.image)
				}
				if took := time.Since(start); took != tc.took {
					t.Errorf("it took %s, want %s", took, tc.took)
				}
				if n := w.deps.Changes.Len(); n != 0 {
					t.Errorf("%d objects are still watched", n)
				}
			})
		})
	}
}

// TestPodClaimWaitsOnceForAll has more than one pod gone: the wait is for all of them together.
func TestPodClaimWaitsOnceForAll(t *testing.T) {
	bubble(t, func(t *testing.T, _ *world) {
		w := newWorld(t, onSchedule("web-a", 1), onSchedule("web-b", 1), onSchedule("web-c", 1))
		start := time.Now()
		answer := w.creating()
		if image := <-answer; image != "app:1" {
			t.Errorf("image = %q", image)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("it took %s, want 3s", took)
		}
	})
}

func TestPodClaimRaceOnSchedule(t *testing.T) {
	bubble(t, func(t *testing.T, _ *world) {
		w := newWorld(t, onSchedule("web-a", 1), dying("web-a"), offNode())
		w.before = func(verb string, obj client.Object) error {
			if verb == "update status" {
				w.before = func(string, client.Object) error { return nil }
				w.change(obj.GetName(), lostSource(metav1.ConditionTrue))
			}
			return nil
		}
		if image := w.patched(replacement(), false).Spec.Containers[0].Image; image != "r/ns:web-a.main" {
			t.Errorf("image = %q, want that of the checkpoint that the leader offered meanwhile", image)
		}
	})
}

// TestPodOfHealthyNodesCostsNoCall has many checkpoints of pods that run.
func TestPodOfHealthyNodesCostsNoCall(t *testing.T) {
	w := newWorld(t, onSchedule("web-a", 1), onSchedule("web-b", 1), n1(corev1.ConditionTrue))
	w.create(replacement(), false)
	if diff := cmp.Diff([]string(nil), w.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestPodClaimOnScheduleTellsItsAge(t *testing.T) {
	bubble(t, func(t *testing.T, _ *world) {
		w := newWorld(t, onSchedule("web-a", 1, lostSource(metav1.ConditionTrue)))
		w.patched(replacement(), false)
		const note = "CheckpointClaimed: Pod web-a was lost with its node; it is replaced by one that starts from a checkpoint that is 4m12s old: " +
			"what happened since is lost; waiting for it to be restored"
		if diff := cmp.Diff([]string{"PodCheckpoint " + note, "ReplicaSet " + note}, w.events.all()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func TestPodWarnsOfVolumesOnSchedule(t *testing.T) {
	withVolume := func(p *corev1.Pod) {
		p.Annotations[v1alpha1.AnnotationInterval] = "10m"
		p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"},
		}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/d"}}
	}
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"a volume":              {change: withVolume, want: `the volume "data" outlives the pod`},
		"no volume":             {change: func(p *corev1.Pod) { p.Annotations[v1alpha1.AnnotationInterval] = "10m" }},
		"a volume, no schedule": {change: func(p *corev1.Pod) { withVolume(p); delete(p.Annotations, v1alpha1.AnnotationInterval) }},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(newWorld(t).create(replacement(tc.change), false).Warnings, "\n")
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("warnings = %q, want …%s…", got, tc.want)
			}
		})
	}
}
