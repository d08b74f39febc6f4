// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/termination"
)

// FuzzMutations: whatever the pod, each mutation leaves the pod that it is given as it is, and does the second time nothing more.
func FuzzMutations(f *testing.F) {
	f.Add([]byte(`{"metadata":{"annotations":{"checkpoint.io/enabled":"true"}},"spec":{"containers":[{"name":"main","image":"b"}]}}`))
	f.Add([]byte(`{"metadata":{"annotations":{"checkpoint.io/base-images":"{\"main\":\"x\"}"}},"spec":{"containers":[{"name":"main","env":[{"name":"GODEBUG"}]}]}}`))
	f.Add([]byte(`{"spec":{"securityContext":{"seccompProfile":{}},"tolerations":[{"operator":"Exists"}],"initContainers":[{"name":"side"}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var pod corev1.Pod
		if json.Unmarshal(raw, &pod) != nil {
			return
		}
		options := inject.Options{TemplateHash: "h", Scheduler: true, Taints: termination.Defaults()}
		for name, mutate := range map[string]func(*corev1.Pod) *corev1.Pod{
			"strip":     inject.Strip,
			"opt in":    func(p *corev1.Pod) *corev1.Pod { return inject.OptIn(p, options) },
			"respond":   inject.Respond,
			"fall back": func(p *corev1.Pod) *corev1.Pod { return inject.FallBack(p, "why") },
		} {
			before := pod.DeepCopy()
			once := mutate(&pod)
			if diff := cmp.Diff(before, &pod); diff != "" {
				t.Errorf("%s changed the pod that it was given:\n%s", name, diff)
			}
			if diff := cmp.Diff(once, mutate(once)); diff != "" {
				t.Errorf("%s twice is not once:\n%s", name, diff)
			}
		}
	})
}

// FuzzBaseImages: what is swapped for a checkpoint is swapped back by what is in the annotation, and a pod whose annotation is anybody's gets no
// image but those that it names for containers that there are.
func FuzzBaseImages(f *testing.F) {
	f.Add("app:1", "side:1", `{"main":"app:1"}`)
	f.Add("", "\x00", `{"main":1}`)
	f.Add("a", "b", `{"main":"x","main":"y","other":"z"}`)
	f.Add("a", "b", "null")
	f.Fuzz(func(t *testing.T, main, side, text string) {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: main}, {Name: "side", Image: side}}}}
		pc := &v1alpha1.PodCheckpoint{Status: v1alpha1.PodCheckpointStatus{Containers: []v1alpha1.ContainerCheckpoint{
			{Name: "main", BaseImage: main, Image: "c@sha256:1"}, {Name: "side", BaseImage: side, Image: "c@sha256:2"},
		}}}
		if inject.Restorable(pod, pc) && validImage(main) && validImage(side) {
			back := inject.FallBack(inject.Restore(pod, pc, "id"), "why")
			if back.Spec.Containers[0].Image != main || back.Spec.Containers[1].Image != side {
				t.Errorf("swapped back to %+v", back.Spec.Containers)
			}
		}
		pod.Annotations = map[string]string{v1alpha1.AnnotationBaseImages: text}
		named := inject.BaseImages(pod)
		back := inject.FallBack(pod, "why")
		for i, c := range back.Spec.Containers {
			if want, ok := named[c.Name]; c.Image != pod.Spec.Containers[i].Image && (!ok || c.Image != want) {
				t.Errorf("container %q got %q", c.Name, c.Image)
			}
		}
	})
}

// validImage tells whether the text is one that JSON keeps as it is.
func validImage(s string) bool {
	raw, err := json.Marshal(s)
	var back string
	return err == nil && json.Unmarshal(raw, &back) == nil && back == s
}
