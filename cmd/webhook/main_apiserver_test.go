// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/apiserver"
)

const host = "cryopod-webhook.cryopod-system.svc"

// mute is what follows where CRIU gave no reason.
const mute = " (it could not rebuild the process on this node; often a file was open in an emptyDir or in /dev/shm, which don't move)"

// TestWebhook runs two replicas with the permissions that the manifests give them.
func TestWebhook(t *testing.T) {
	t.Parallel()
	c := start(t)
	a, b := c.run(t), c.run(t)
	a.awaitReady(t)
	b.awaitReady(t)

	t.Run("they work", func(t *testing.T) {
		inParallel(t, map[string]func(*testing.T){
			"both serve the certificate that the API server trusts": func(t *testing.T) { c.testCertificate(t, a, b) },
			"a claim is bound, and the restore noted":               c.testRestored,
			"a failed restore becomes a cold start":                 c.testFallBack,
			"a pod that is gone ends its checkpoint":                c.testSourceGone,
			"a pod that went with its node is lost":                 c.testLost,
			"a checkpoint that no pod comes for expires":            c.testSurplus,
		})
	})
	t.Run("the leader steps down when it ends", func(t *testing.T) {
		holder := c.holder(t)
		began := time.Now()
		if err := a.stop(); err != nil {
			t.Errorf("the replica ended with: %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the replica took %s to end", took)
		}
		if err := b.stop(); err != nil {
			t.Errorf("the replica ended with: %v", err)
		}
		if now := c.holder(t); holder == "" || now != "" {
			t.Errorf("the Lease was held by %q, and after the end by %q", holder, now)
		}
	})
	t.Run("it is gone without a trace", c.testUninstall)
}

// TestTwoLeaders runs the controllers twice at a time, as when a leader does not know yet that it leads no more.
func TestTwoLeaders(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.run(t, "--leader-elect=false").awaitReady(t)
	c.run(t, "--leader-elect=false").awaitReady(t)

	const pods = 12
	generations := map[string]int64{}
	for i := range pods {
		pod := c.replacement(t, c.checkpoint(t, fmt.Sprintf("cart-%d", i), v1alpha1.PhaseClaimed))
		generations[pod.Name] = pod.Generation
		c.report(t, pod, waiting("CreateContainerError", "no such container runtime feature"))
	}
	for i := range pods {
		name := fmt.Sprintf("cart-%d", i)
		pc := c.awaitPhase(t, name, v1alpha1.PhaseFailed)
		pod := &corev1.Pod{}
		if err := c.admin.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name + "-new"}, pod); err != nil {
			t.Fatal(err)
		}
		if changes := pod.Generation - generations[pod.Name]; changes != 1 || pod.Spec.Containers[0].Image != "app:1" {
			t.Errorf("pod %q has image %q after %d changes, want app:1 after 1", pod.Name, pod.Spec.Containers[0].Image, changes)
		}
		if entered := len(pc.Status.Timings); entered != 2 || pc.Status.Claim.PodUID != pod.UID {
			t.Errorf("PodCheckpoint %q entered %d phases and is bound to %q, want 2 and %q", name, entered, pc.Status.Claim.PodUID, pod.UID)
		}
		if n := len(c.awaitEvents(t, "RestoreFailed", name)); n != 1 {
			t.Errorf("PodCheckpoint %q has %d events RestoreFailed, want 1", name, n)
		}
	}
}

func (c *cluster) testCertificate(t *testing.T, replicas ...*replica) {
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := c.admin.Get(t.Context(), client.ObjectKey{Name: "cryopod"}, config); err != nil {
		t.Fatal(err)
	}
	var serials []string
	for _, w := range config.Webhooks {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(w.ClientConfig.CABundle) {
			t.Fatalf("webhook %q has no CA", w.Name)
		}
		for _, r := range replicas {
			conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port), &tls.Config{RootCAs: roots, ServerName: host})
			if err != nil {
				t.Fatalf("calling webhook %q: %v", w.Name, err)
			}
			serials = append(serials, conn.ConnectionState().PeerCertificates[0].SerialNumber.String())
			_ = conn.Close()
		}
	}
	for _, s := range serials {
		if s != serials[0] {
			t.Errorf("certificates differ: %v", serials)
		}
	}
}

func (c *cluster) testRestored(t *testing.T) {
	pod := c.replacement(t, c.checkpoint(t, "good", v1alpha1.PhaseClaimed))
	apiserver.Await(t, "the claim bound", func(ctx context.Context) (string, bool, error) {
		pc, err := c.get(ctx, "good")
		return string(pc.Status.Claim.PodUID), pc.Status.Claim.PodUID == pod.UID, err
	})
	c.report(t, pod, corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
	pc := c.awaitPhase(t, "good", v1alpha1.PhaseRestored)
	if pc.Status.Claim.NodeName != "node-2" {
		t.Errorf("restored on %q, want node-2", pc.Status.Claim.NodeName)
	}
	for _, on := range []string{"good-new", "good", "owner-of-good"} {
		c.awaitEvents(t, "Restored", on)
	}
}

func (c *cluster) testFallBack(t *testing.T) {
	pod := c.replacement(t, c.checkpoint(t, "bad", v1alpha1.PhaseClaimed))
	began := time.Now()
	c.report(t, pod, waiting("RunContainerError",
		"failed to restore containerd task: OCI runtime restore failed: criu failed: type NOTIFY errno 0\npath= /run/x/restore.log: unknown"))
	pc := c.awaitPhase(t, "bad", v1alpha1.PhaseFailed)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("falling back took %s", took)
	}
	want := `Restore from PodCheckpoint "bad" failed (container "app": criu failed: type NOTIFY errno 0` + mute + `); starting cold from the base images`
	if diff := cmp.Diff(want, pc.Status.Message); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	if err := c.admin.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
		t.Fatal(err)
	}
	if got := pod.Spec.Containers[0].Image; got != "app:1" || pod.Annotations[v1alpha1.AnnotationFellBack] == "" {
		t.Errorf("image %q, annotations %v: want the base image and the reason", got, pod.Annotations)
	}
	if notes := c.awaitEvents(t, "RestoreFailed", "bad-new"); !strings.Contains(notes[0], "criu failed") {
		t.Errorf("events on the pod: %q", notes)
	}
}

func (c *cluster) testSourceGone(t *testing.T) {
	c.checkpoint(t, "gone", v1alpha1.PhaseDumping)
	// A pod without a node is gone at once.
	if err := c.admin.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "gone-old"}}); err != nil {
		t.Fatal(err)
	}
	pc := c.awaitPhase(t, "gone", v1alpha1.PhaseFailed)
	if !strings.Contains(pc.Status.Message, "was gone before") {
		t.Errorf("message %q", pc.Status.Message)
	}
}

// testUninstall deletes what was applied, on a cluster that has checkpoints.
func (c *cluster) testUninstall(t *testing.T) {
	c.kubectl(t, "delete", "--wait=false", "-k", filepath.Join(c.Checkout, "manifests"))
	err := c.admin.Get(t.Context(), client.ObjectKey{Name: "cryopod"}, &admissionregistrationv1.MutatingWebhookConfiguration{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the webhook configuration: %v, want it gone", err)
	}
	apiserver.Await(t, "the PodCheckpoints and their type gone", func(ctx context.Context) (string, bool, error) {
		pc, err := c.get(ctx, "good")
		return pc.Name, err != nil, nil
	})
	began := time.Now()
	c.create(t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "after", Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	})
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("creating an annotated pod took %s", took)
	}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func (c *cluster) get(ctx context.Context, name string) (*v1alpha1.PodCheckpoint, error) {
	pc := &v1alpha1.PodCheckpoint{}
	err := c.admin.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, pc)
	return pc, err
}

func (c *cluster) awaitPhase(t *testing.T, name string, phase v1alpha1.Phase) *v1alpha1.PodCheckpoint {
	t.Helper()
	var pc *v1alpha1.PodCheckpoint
	apiserver.Await(t, string(phase), func(ctx context.Context) (got string, ok bool, err error) {
		pc, err = c.get(ctx, name)
		return string(pc.Status.Phase), pc.Status.Phase == phase, err
	})
	return pc
}

// awaitEvents are the notes of the events about the object of that name, once there is one.
func (c *cluster) awaitEvents(t *testing.T, reason, about string) []string {
	t.Helper()
	var notes []string
	apiserver.Await(t, "an event "+reason+" on "+about, func(ctx context.Context) (string, bool, error) {
		notes = nil
		var list eventsv1.EventList
		err := c.admin.List(ctx, &list, client.InNamespace("default"))
		for _, e := range list.Items {
			if e.Reason == reason && e.Regarding.Name == about {
				notes = append(notes, e.Note)
			}
		}
		return fmt.Sprintf("%d events", len(list.Items)), len(notes) > 0, err
	})
	return notes
}

func (c *cluster) holder(t *testing.T) string {
	t.Helper()
	lease := &coordinationv1.Lease{}
	if err := c.admin.Get(t.Context(), client.ObjectKey{Namespace: "cryopod-system", Name: "cryopod-webhook"}, lease); err != nil {
		t.Fatal(err)
	}
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}
