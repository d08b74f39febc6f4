// SPDX-License-Identifier: Apache-2.0

package match_test

import (
	"encoding/json"
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/pkg/termination"
)

// FuzzTemplateHash: the hash of a pod is the same before and after admission, and once more after another admission.
func FuzzTemplateHash(f *testing.F) {
	f.Add([]byte(`{"metadata":{"annotations":{"checkpoint.io/enabled":"true"}},"spec":{"containers":[{"name":"a","image":"b"}]}}`))
	f.Add([]byte(`{"metadata":{"labels":{"pod-template-hash":"x"},"annotations":{"checkpoint.io/base-images":"{\"a\":\"c\"}"}},"spec":{"containers":[{"name":"a","image":"b","env":[{"name":"GODEBUG","value":"x"}],"securityContext":{"seccompProfile":{"type":"RuntimeDefault"}}}]}}`))
	f.Add([]byte(`{"spec":{"initContainers":[{"name":"a"},{"name":"a"}],"containers":[],"securityContext":{"runAsUser":0}}}`))
	f.Add([]byte(`{"metadata":{"annotations":{"checkpoint.io/base-images":"null","checkpoint.io/inject":"false"}}}`))
	hash := regexp.MustCompile("^[0-9a-f]{16}$")
	f.Fuzz(func(t *testing.T, raw []byte) {
		var pod corev1.Pod
		if json.Unmarshal(raw, &pod) != nil {
			return
		}
		before := match.TemplateHash(&pod)
		if !hash.MatchString(before) {
			t.Fatalf("hash %q", before)
		}
		stripped := inject.Strip(&pod)
		if _, swapped := pod.Annotations["checkpoint.io/base-images"]; swapped {
			before = match.TemplateHash(stripped)
		}
		once := inject.OptIn(stripped, inject.Options{TemplateHash: before, Scheduler: true, Taints: termination.Defaults()})
		twice := inject.OptIn(once, inject.Options{TemplateHash: before, Scheduler: true, Taints: termination.Defaults()})
		for _, p := range []*corev1.Pod{once, twice} {
			if after := match.TemplateHash(p); after != before {
				t.Errorf("hash %q before admission, %q after it", before, after)
			}
		}
	})
}

// FuzzName: names of PodCheckpoints are short and plain enough, and tell their attempt.
func FuzzName(f *testing.F) {
	f.Add("web-0", "6b7e1ff0-9d0c-4b1c-8a8e-0d9a3f3a4c11", 1)
	f.Add("a.b-.-.", "", 1<<31-1)
	name := regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$`)
	pod := regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
	f.Fuzz(func(t *testing.T, podName, uid string, attempt int) {
		if !pod.MatchString(podName) || attempt < 1 || attempt >= 10_000_000_000 {
			_ = match.Attempt(podName)
			return
		}
		got := match.Name(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: podName, UID: types.UID(uid)}}, attempt)
		if !name.MatchString(got) || match.Attempt(got) != attempt {
			t.Errorf("name %q of attempt %d tells %d", got, attempt, match.Attempt(got))
		}
	})
}
