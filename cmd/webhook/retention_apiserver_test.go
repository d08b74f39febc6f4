// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/archive/archivetest"
	"github.com/cryopod/cryopod/pkg/image"
	"github.com/cryopod/cryopod/test/apiserver"
)

// kept is a cluster with a registry that its agents have pushed to.
type kept struct {
	*cluster
	prefix string
	// broken is a status that the registry answers everything with, refusing one that it answers deletions with; 0 is none.
	broken, refusing atomic.Int32
	uid              string
}

func startKept(t *testing.T) *kept {
	t.Helper()
	k := &kept{cluster: start(t)}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		status := k.broken.Load()
		if status == 0 && req.Method == http.MethodDelete {
			status = k.refusing.Load()
		}
		if status != 0 {
			w.WriteHeader(int(status))
			return
		}
		inner.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	k.prefix = strings.TrimPrefix(server.URL, "http://") + "/checkpoints"
	system := &corev1.Namespace{}
	if err := k.admin.Get(t.Context(), client.ObjectKey{Name: "kube-system"}, system); err != nil {
		t.Fatal(err)
	}
	k.uid = string(system.UID)
	return k
}

// retaining runs a replica that is the leader at once.
func (k *kept) retaining(t *testing.T, args ...string) *replica {
	t.Helper()
	r := k.run(t, append(args, "--leader-elect=false", "--registry="+k.prefix, "--retention-sweep=1s")...)
	r.awaitReady(t)
	return r
}

// push puts the image of a checkpoint into the registry, as an agent of the cluster of that UID would, and tells its size.
func (k *kept) push(t *testing.T, ns, checkpoint, cluster string) int64 {
	t.Helper()
	raw := archivetest.Tar(archivetest.Checkpoint(archivetest.File("checkpoint/x", ns+checkpoint))...)
	result, err := (&image.Pusher{}).Push(t.Context(), image.Request{
		Archive:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
		Container: "app", Tag: image.Tag(k.prefix, ns, checkpoint, "app"), Origin: image.Origin{Cluster: cluster, Namespace: ns},
	})
	if err != nil {
		t.Fatal(err)
	}
	return result.PushedBytes
}

// over makes a PodCheckpoint that entered its last phase so long ago, with its image.
func (k *kept) over(t *testing.T, ns, name, owner string, phase v1alpha1.Phase, ago time.Duration) *v1alpha1.PodCheckpoint {
	t.Helper()
	deadline := metav1.NewTime(time.Now().Add(-time.Hour))
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "pod-of-" + name, PodUID: types.UID("uid-of-" + name), NodeName: "node-1", Reason: v1alpha1.ReasonEviction, Deadline: &deadline,
		},
	}
	k.create(t, pc)
	pc.Status.Owner = &v1alpha1.Owner{UID: types.UID(owner), APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner}
	pc.Status.Containers = []v1alpha1.ContainerCheckpoint{{
		Name: "app", BaseImage: "app:1", ImageTag: image.Tag(k.prefix, ns, name, "app"), PushedBytes: k.push(t, ns, name, k.uid),
	}}
	pc.Status.Enter(phase, "", time.Now().Add(-ago))
	if err := k.admin.Status().Update(t.Context(), pc); err != nil {
		t.Fatal(err)
	}
	return pc
}

func (k *kept) namespace(t *testing.T, name string, annotations map[string]string) {
	t.Helper()
	k.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}})
}

// state is what there is of a namespace: its PodCheckpoints, marked where their images are gone, and the registry's tags.
func (k *kept) state(ctx context.Context, ns string) (string, error) {
	var all v1alpha1.PodCheckpointList
	if err := k.admin.List(ctx, &all, client.InNamespace(ns)); err != nil {
		return "", err
	}
	var names []string
	for i := range all.Items {
		name := all.Items[i].Name
		if meta.IsStatusConditionTrue(all.Items[i].Status.Conditions, v1alpha1.ConditionImagesRemoved) {
			name += "-"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	tags, err := (&image.Pusher{}).Tags(ctx, k.prefix+"/"+ns)
	slices.Sort(tags)
	return strings.Join(names, " ") + " | " + strings.Join(tags, " "), err
}

func (k *kept) await(t *testing.T, ns, want string) {
	t.Helper()
	apiserver.Await(t, want, func(ctx context.Context) (string, bool, error) {
		got, err := k.state(ctx, ns)
		return got, got == want, err
	})
}

func (k *kept) awaitEvent(t *testing.T, reason, about string) string {
	t.Helper()
	var note string
	apiserver.Await(t, "an event "+reason+" on "+about, func(ctx context.Context) (string, bool, error) {
		var list eventsv1.EventList
		err := k.admin.List(ctx, &list)
		for _, e := range list.Items {
			if e.Reason == reason && e.Regarding.Name == about {
				note = e.Note
			}
		}
		return fmt.Sprintf("%d events", len(list.Items)), note != "", err
	})
	return note
}

// end deletes a namespace and what is in it, as kube-controller-manager would.
func (k *kept) end(t *testing.T, name string) {
	t.Helper()
	if err := k.admin.DeleteAllOf(t.Context(), &v1alpha1.PodCheckpoint{}, client.InNamespace(name)); err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := k.admin.Delete(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	if err := k.admin.Get(t.Context(), client.ObjectKeyFromObject(ns), ns); err != nil {
		t.Fatal(err)
	}
	ns.Spec.Finalizers = nil
	clientset, err := kubernetes.NewForConfig(k.Config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clientset.CoreV1().Namespaces().Finalize(t.Context(), ns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

const restored = v1alpha1.PhaseRestored

// TestRetention runs the command with the permissions of the manifests beside a registry.
func TestRetention(t *testing.T) {
	t.Parallel()
	k := startKept(t)
	t.Run("rollouts and overrides", k.testRollouts)
	t.Run("bytes", k.testBytes)
	t.Run("a namespace that went while nobody was there", k.testNamespace)
	t.Run("the registry is away", k.testAway)
	t.Run("the registry does not delete", k.testRefusing)
}

// testRollouts has two owners' checkpoints, one after the other's rollout, and a namespace with a mind of its own.
func (k *kept) testRollouts(t *testing.T) {
	k.namespace(t, "shop", nil)
	k.namespace(t, "bank", map[string]string{v1alpha1.AnnotationRetentionCount: "1", v1alpha1.AnnotationRetentionAge: "forever"})
	for i := range 5 {
		k.over(t, "shop", fmt.Sprintf("old-%d", i), "rs-old", restored, time.Duration(20-i)*time.Minute)
	}
	k.over(t, "shop", "new-0", "rs-new", v1alpha1.PhaseFailed, 10*time.Minute)
	k.over(t, "shop", "new-1", "rs-new", v1alpha1.PhaseReady, time.Minute)
	k.over(t, "shop", "aged", "rs-newest", restored, 2*time.Hour)
	k.over(t, "bank", "a", "rs", restored, 10*time.Minute)
	k.over(t, "bank", "b", "rs", restored, 9*time.Minute)
	k.retaining(t)
	k.await(t, "shop", "new-0- new-1 old-2- old-3- old-4- | new-1.app")
	k.await(t, "bank", "b- | ")
	want := `checkpoint.io/retention-age="forever" is not a positive duration like "90m"; the cluster's default counts`
	if diff := cmp.Diff(want, k.awaitEvent(t, "InvalidRetention", "bank")); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	bank := &corev1.Namespace{}
	if err := k.admin.Get(t.Context(), client.ObjectKey{Name: "bank"}, bank); err != nil {
		t.Fatal(err)
	}
	bank.Annotations[v1alpha1.AnnotationRetentionAge] = "1m"
	if err := k.admin.Update(t.Context(), bank); err != nil {
		t.Fatal(err)
	}
	k.await(t, "bank", " | ")
}

// testBytes keeps images for people, up to a bound.
func (k *kept) testBytes(t *testing.T) {
	k.namespace(t, "large", nil)
	size := k.over(t, "large", "a", "rs-1", restored, 3*time.Minute).Status.Containers[0].PushedBytes
	k.over(t, "large", "b", "rs-2", restored, 2*time.Minute)
	k.over(t, "large", "c", "rs-3", v1alpha1.PhaseReady, time.Minute)
	k.retaining(t, "--retention-keep-images", fmt.Sprintf("--retention-bytes=%d", 2*size+size/2))
	k.await(t, "large", "a- b c | b.app c.app")
	if note := k.awaitEvent(t, "CheckpointImagesRemoved", "rs-1"); !strings.Contains(note, `those of pod "pod-of-a"`) {
		t.Errorf("event on the owner: %q", note)
	}
}

// testNamespace deletes a namespace while no replica runs; the next one finds its images, and no others.
func (k *kept) testNamespace(t *testing.T) {
	k.namespace(t, "gone", nil)
	k.over(t, "gone", "a", "rs", v1alpha1.PhaseReady, time.Minute)
	k.end(t, "gone")
	k.namespace(t, "here", nil)
	k.over(t, "here", "ready", "rs", v1alpha1.PhaseReady, time.Minute)
	k.push(t, "here", "deleted-by-hand", k.uid)
	k.push(t, "here", "another-clusters", "another")
	k.push(t, "here", "nobodys", "")
	k.retaining(t)
	k.await(t, "gone", " | ")
	k.await(t, "here", "ready | another-clusters.app nobodys.app ready.app")
}

// testAway has the registry come back.
func (k *kept) testAway(t *testing.T) {
	k.namespace(t, "patient", nil)
	k.over(t, "patient", "a", "rs", restored, 2*time.Hour)
	k.broken.Store(http.StatusServiceUnavailable)
	k.retaining(t)
	k.awaitEvent(t, "CheckpointImagesLeft", "a")
	k.broken.Store(0)
	k.await(t, "patient", " | ")
}

// testRefusing lets PodCheckpoints go without their images, and says so once, where people look for the webhook.
func (k *kept) testRefusing(t *testing.T) {
	k.namespace(t, "stuck", nil)
	k.over(t, "stuck", "a", "rs", restored, 2*time.Hour)
	k.over(t, "stuck", "b", "rs", restored, 10*time.Minute)
	k.refusing.Store(http.StatusMethodNotAllowed)
	defer k.refusing.Store(0)
	k.retaining(t)
	k.await(t, "stuck", "b | a.app b.app")
	if note := k.awaitEvent(t, "RegistryRefusesDeletion", "cryopod-webhook"); !strings.Contains(note, "does not delete images") {
		t.Errorf("event: %q", note)
	}
}
