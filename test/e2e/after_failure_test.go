// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/image"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/object"
)

// coldLimit is within what time a pod whose restore can't succeed runs from its base image.
const coldLimit = 30 * time.Second

// unrestorable is a pod that is saved and can't be restored.
type unrestorable struct {
	template func(*scene) corev1.PodTemplateSpec
	// spoil makes the restore impossible, after the pod was saved and before its replacement has a node.
	spoil func(*scene, v1alpha1.PodCheckpoint)
	// tells is what the events have to say, in lower case.
	tells string
}

var unrestorables = map[string]unrestorable{
	"criu-fails":  {template: openFile, spoil: func(*scene, v1alpha1.PodCheckpoint) {}, tells: "criu failed"},
	"image-gone":  {template: plain, spoil: deleteCheckpointImage, tells: "not found"},
	"base-gone":   {template: ownBase, spoil: replaceBase, tells: "is not on the node and can't be pulled"},
	"cpu-lacking": {template: plain, spoil: demandFeature, tells: "avx9000"},
}

// TestAfterTheRestore has restored pods saved again, and pods that can't be restored start cold.
func TestAfterTheRestore(t *testing.T) {
	t.Parallel()
	inBackground(t, "again", testAgainAndAgain)
	inParallel(t, "asked-once", testAskedOnce)
	for name, c := range unrestorables {
		inParallel(t, name, func(t *testing.T) { testUnrestorable(t, name, c) })
	}
}

func testUnrestorable(t *testing.T, name string, c unrestorable) {
	s := newScene(t, name, nil, "main")
	place := s.place()
	template := c.template(s)
	template.Spec.NodeSelector = map[string]string{place.label: "yes"}
	s.create(s.Deployment(s.name, template))
	before := s.settle()
	target := s.otherNode(before).Name()

	after, begun := s.drainAndSpoil(before, place, target, c.spoil)
	s.t.Logf("pod %q runs on %s %.1f s after it could be placed", after.Name, after.Spec.NodeName, time.Since(begun).Seconds())
	if took := time.Since(begun); took > coldLimit {
		t.Errorf("pod %q runs %v after it could be placed, want at most %v", after.Name, took, coldLimit)
	}
	s.checkCold(before, after)
	s.checkpoint(before, v1alpha1.PhaseFailed)
	s.checkFellBackOnce(after, c.tells)
}

// drainAndSpoil drains the pod's node, spoils the checkpoint while its replacement has nowhere to go, and returns the replacement once it
// runs on the target, with the time since when it could.
func (s *scene) drainAndSpoil(
	pod *corev1.Pod, place *place, target string, spoil func(*scene, v1alpha1.PodCheckpoint),
) (*corev1.Pod, time.Time) {
	s.t.Helper()
	s.nodes.enter(pod.Spec.NodeName)
	defer s.nodes.leave(s.uncordon)
	place.close(target)
	ctx, cancel := s.within(drainTimeout + moveTimeout)
	defer cancel()
	_, err := testbed.Kubectl.Drain(ctx, kubectl.Drain{
		Node: pod.Spec.NodeName, Selector: object.LabelApp + "=" + s.name, Timeout: drainTimeout,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	spoil(s, s.checkpoint(pod, v1alpha1.PhaseClaimed))
	begun := time.Now()
	place.open(target)
	after, err := testbed.RunningPod(ctx, s.Namespace, s.name, pod.UID)
	if err != nil {
		s.t.Fatal(err)
	}
	return after, begun
}

// checkFellBackOnce fails the test unless the pod was sent back to its owner's image once, and the events on it and on its owner say why.
func (s *scene) checkFellBackOnce(pod *corev1.Pod, tells string) {
	s.t.Helper()
	now, err := testbed.Pod(s.t.Context(), s.Namespace, s.name)
	if err != nil {
		s.t.Fatal(err)
	}
	if now.UID != pod.UID || len(inSpec(now)) != 0 || now.Annotations[v1alpha1.AnnotationFellBack] == "" {
		s.t.Errorf("pod %q has checkpoint images %q and annotation %q, want pod %q cold", now.Name, inSpec(now),
			now.Annotations[v1alpha1.AnnotationFellBack], pod.Name)
	}
	for _, c := range now.Status.ContainerStatuses {
		// The kubelet tries once more before it has heard of the fall-back.
		if c.RestartCount > 2 {
			s.t.Errorf("container %q was restarted %d times, want twice at most", c.Name, c.RestartCount)
		}
	}
	owner := metav1.GetControllerOf(now)
	for _, object := range []struct{ kind, name string }{{"Pod", now.Name}, {owner.Kind, owner.Name}} {
		found := s.eventsOn(object.kind, object.name, "RestoreFailed")
		if len(found) != 1 || found[0].Count > 1 || found[0].Series != nil {
			s.t.Errorf("%s %q has events %v of its failed restore, want one", object.kind, object.name, found)
			continue
		}
		if !strings.Contains(strings.ToLower(found[0].Message), tells) {
			s.t.Errorf("%s %q is told %q, want something of %q", object.kind, object.name, found[0].Message, tells)
		}
		s.t.Logf("%s %s: %s", object.kind, object.name, found[0].Message)
	}
}

// inSpec are the images of the pod that are checkpoints.
func inSpec(pod *corev1.Pod) []string {
	var found []string
	for _, c := range pod.Spec.Containers {
		if strings.Contains(c.Image, "/checkpoints/") {
			found = append(found, c.Image)
		}
	}
	return found
}

// eventsOn are the events of that reason about an object, once there is one.
func (s *scene) eventsOn(kind, name, reason string) []corev1.Event {
	s.t.Helper()
	ctx, cancel := s.within(toldTimeout)
	defer cancel()
	var found []corev1.Event
	err := bed.Until(ctx, func(ctx context.Context) error {
		all, err := testbed.Events(ctx, s.Namespace)
		if err != nil {
			return err
		}
		found = nil
		for _, e := range all {
			if e.InvolvedObject.Kind == kind && e.InvolvedObject.Name == name && e.Reason == reason {
				found = append(found, e)
			}
		}
		if len(found) == 0 {
			return fmt.Errorf("there is no event %s on %s %q", reason, kind, name)
		}
		return nil
	})
	if err != nil {
		s.t.Error(err)
	}
	return found
}

// place is a label of nodes by which a scene says where its pods may run, without getting into the way of others.
type place struct {
	s     *scene
	label string
}

// place opens the scene's nodes to pods with its label, until the test ends.
func (s *scene) place() *place {
	p := &place{s: s, label: "e2e.cryopod.io/" + s.Namespace}
	for _, node := range s.nodes.names {
		p.open(node)
		s.t.Cleanup(func() { p.set(context.Background(), node, "-") })
	}
	return p
}

func (p *place) open(node string)  { p.set(p.s.t.Context(), node, "=yes") }
func (p *place) close(node string) { p.set(p.s.t.Context(), node, "-") }

func (p *place) set(ctx context.Context, node, value string) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := testbed.Kubectl.Run(ctx, "label", "node", node, p.label+value); err != nil {
		p.s.t.Error(err)
	}
}

func plain(s *scene) corev1.PodTemplateSpec { return s.Template(s.name, s.Stepper(s.name, "main")) }

// onHost is how the host reaches an image of the cluster's registry.
func onHost(ref string) string { return testbed.OnHost(ref) }

// baseOf is the scene's own base image.
func baseOf(s *scene) string {
	return testbed.Cluster.RegistryName() + "/cryopod/" + s.Namespace + ":1"
}

// ownBase is a pod from an image that nobody else has.
func ownBase(s *scene) corev1.PodTemplateSpec {
	if err := image.Variant(s.t.Context(), onHost(s.Images.Stepper), onHost(baseOf(s)), "first"); err != nil {
		s.t.Fatal(err)
	}
	template := plain(s)
	template.Spec.Containers[0].Image = baseOf(s)
	return template
}

// replaceBase removes the base image that was checkpointed; by its name another one can be pulled.
func replaceBase(s *scene, _ v1alpha1.PodCheckpoint) {
	if err := image.Delete(s.t.Context(), onHost(baseOf(s))); err != nil {
		s.t.Fatal(err)
	}
	if err := image.Variant(s.t.Context(), onHost(s.Images.Stepper), onHost(baseOf(s)), "second"); err != nil {
		s.t.Fatal(err)
	}
}

func deleteCheckpointImage(s *scene, pc v1alpha1.PodCheckpoint) {
	for _, c := range pc.Status.Containers {
		if err := image.Delete(s.t.Context(), onHost(c.Image)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// watchLag is how much later than others one watch of a busy program may hear of a change.
const watchLag = 5 * time.Second

// demandFeature has the checkpoint need what no CPU has, as one of a newer machine would.
func demandFeature(s *scene, pc v1alpha1.PodCheckpoint) {
	changed := pc.DeepCopy()
	changed.Status.Requirements.CPUFeatures = append(changed.Status.Requirements.CPUFeatures, "avx9000")
	if err := testbed.Client.Status().Patch(s.t.Context(), changed, client.MergeFrom(&pc)); err != nil {
		s.t.Fatal(err)
	}
	// The scheduler is told of it and of the node that opens next by two watches, and a busy one may hear of the node first (seen once in CI).
	select {
	case <-s.t.Context().Done():
	case <-time.After(watchLag):
	}
}
