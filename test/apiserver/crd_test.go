// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

func podCheckpoint(ns, name string, changes ...func(*v1alpha1.PodCheckpoint)) *v1alpha1.PodCheckpoint {
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "web-0", PodUID: "p1", NodeName: "node-a", Reason: v1alpha1.ReasonManual, FenceSeconds: 30, MaxFreezeSeconds: 60,
		},
	}
	for _, c := range changes {
		c(pc)
	}
	return pc
}

func TestPodCheckpointValidation(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	long := strings.Repeat("x", 63)
	tests := map[string]struct {
		name   string
		change func(*v1alpha1.PodCheckpoint)
		// refused is part of the message, empty when it is accepted.
		refused string
	}{
		"good":             {name: "good"},
		"longest name":     {name: long},
		"too long a name":  {name: long + "x", refused: "the name must have at most 63 characters"},
		"no pod":           {name: "a", change: func(pc *v1alpha1.PodCheckpoint) { pc.Spec.PodName = "" }, refused: "spec.podName"},
		"no UID":           {name: "a", change: func(pc *v1alpha1.PodCheckpoint) { pc.Spec.PodUID = "" }, refused: "podUID must have 1 to 64 characters"},
		"no node":          {name: "a", change: func(pc *v1alpha1.PodCheckpoint) { pc.Spec.NodeName = "" }, refused: "spec.nodeName"},
		"unknown reason":   {name: "a", change: func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Reason = "Whim" }, refused: "spec.reason"},
		"fenced for hours": {name: "a", change: func(pc *v1alpha1.PodCheckpoint) { pc.Spec.FenceSeconds = 3601 }, refused: "spec.fenceSeconds"},
		"frozen for hours": {name: "a", change: func(pc *v1alpha1.PodCheckpoint) { pc.Spec.MaxFreezeSeconds = 3601 }, refused: "spec.maxFreezeSeconds"},
		"container twice":  {name: "a", change: func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Containers = []string{"x", "x"} }, refused: "spec.containers"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pc := podCheckpoint(ns, tc.name)
			if tc.change != nil {
				tc.change(pc)
			}
			wantRefusal(t, admin.Create(t.Context(), pc), tc.refused)
		})
	}
}

func TestPodCheckpointSpecNeverChanges(t *testing.T) {
	pc := create(t, podCheckpoint(namespace(t, nil), "web"))
	tests := map[string]func(*v1alpha1.PodCheckpoint){
		"node":     func(pc *v1alpha1.PodCheckpoint) { pc.Spec.NodeName = "node-b" },
		"deadline": func(pc *v1alpha1.PodCheckpoint) { now := metav1.Now(); pc.Spec.Deadline = &now },
		"fence":    func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Fence = true },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			changed := pc.DeepCopy()
			change(changed)
			wantRefusal(t, admin.Update(t.Context(), changed), "spec is immutable; make a new PodCheckpoint")
		})
	}
	withLabel := pc.DeepCopy()
	withLabel.Labels = map[string]string{"a": "b"}
	wantRefusal(t, admin.Update(t.Context(), withLabel), "")
}

func TestPodCheckpointStatus(t *testing.T) {
	pc := create(t, podCheckpoint(namespace(t, nil), "web"))
	wrong := pc.DeepCopy()
	wrong.Status.Phase = "Confused"
	wantRefusal(t, admin.Status().Update(t.Context(), wrong), "status.phase")

	stale := pc.DeepCopy()
	pc.Status.Phase = v1alpha1.PhaseFreezing
	wantRefusal(t, admin.Status().Update(t.Context(), pc), "")
	stale.Status.Phase = v1alpha1.PhaseFailed
	wantRefusal(t, admin.Status().Update(t.Context(), stale), "the object has been modified")
}

func TestPodCheckpointSelectableFields(t *testing.T) {
	ns := namespace(t, nil)
	here := create(t, podCheckpoint(ns, "here"))
	create(t, podCheckpoint(ns, "there", func(pc *v1alpha1.PodCheckpoint) { pc.Spec.NodeName, pc.Spec.PodName = "node-b", "web-1" }))
	here.Status.Phase = v1alpha1.PhaseReady
	if err := admin.Status().Update(t.Context(), here); err != nil {
		t.Fatal(err)
	}
	for field, value := range map[string]string{"spec.nodeName": "node-a", "spec.podName": "web-0", "status.phase": "Ready"} {
		t.Run(field, func(t *testing.T) {
			var list v1alpha1.PodCheckpointList
			if err := admin.List(t.Context(), &list, client.InNamespace(ns), client.MatchingFields{field: value}); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, pc := range list.Items {
				names = append(names, pc.Name)
			}
			if diff := cmp.Diff([]string{"here"}, names); diff != "" {
				t.Errorf("selected (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("watch", func(t *testing.T) {
		w, err := admin.Watch(t.Context(), &v1alpha1.PodCheckpointList{}, client.InNamespace(ns), client.MatchingFields{"spec.nodeName": "node-b"})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		select {
		case e := <-w.ResultChan():
			if pc, ok := e.Object.(*v1alpha1.PodCheckpoint); !ok || pc.Name != "there" {
				t.Errorf("watch shows %v", e)
			}
		case <-time.After(10 * time.Second):
			t.Error("watch shows nothing")
		}
	})
}

func TestPrinterColumns(t *testing.T) {
	ns := namespace(t, nil)
	pc := create(t, podCheckpoint(ns, "web"))
	pc.Status.Phase = v1alpha1.PhaseClaimed
	pc.Status.Claim = &v1alpha1.Claim{ID: "x", PodName: "web-9", NodeName: "node-b", Time: metav1.NowMicro()}
	if err := admin.Status().Update(t.Context(), pc); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"podcheckpoints", "pckpt", "pcp"} {
		out, err := exec.Command(server.Kubectl, "--kubeconfig", kubeconfig(t), "-n", ns, "get", name).CombinedOutput()
		if err != nil {
			t.Fatalf("kubectl get %s: %v: %s", name, err, out)
		}
		lines := strings.Split(string(out), "\n")
		want := []string{"NAME", "POD", "NODE", "REASON", "PHASE", "REPLACEMENT", "TARGET", "AGE"}
		if diff := cmp.Diff(want, strings.Fields(lines[0])); diff != "" {
			t.Errorf("columns (-want +got):\n%s", diff)
		}
		want = []string{"web", "web-0", "node-a", "Manual", "Claimed", "web-9", "node-b"}
		if got := strings.Fields(lines[1]); len(got) != 8 || cmp.Diff(want, got[:7]) != "" {
			t.Errorf("row %q, want %q and the age", got, want)
		}
	}
}

func wantRefusal(t *testing.T, err error, part string) {
	t.Helper()
	switch {
	case part == "" && err != nil:
		t.Errorf("refused: %v", err)
	case part != "" && err == nil:
		t.Errorf("accepted, want refused with %q", part)
	case part != "" && !strings.Contains(err.Error(), part):
		t.Errorf("refused with %v, want %q", err, part)
	}
}

func kubeconfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := server.WriteKubeconfig(path); err != nil {
		t.Fatal(err)
	}
	return path
}
