// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/image"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/object"
)

const (
	// gateHeld keeps a pod from being scheduled until the test lets it.
	gateHeld = "e2e.example.com/held"
	// baseMebibytes is what a node has to pull that has none of a placement's base image.
	baseMebibytes = 32
	// largeMebibytes is the memory of a pod whose checkpoint takes long enough to pull that it is worth going to where it is.
	largeMebibytes = 160
	// spreadPods leave their node at once.
	spreadPods = 6
)

// TestPlace looks where pods go that are restored. It has the nodes that are reserved to itself.
func TestPlace(t *testing.T) {
	t.Run("nearest", testNearest)
	t.Run("spread", testSpread)
}

// testNearest offers pods a node that has their checkpoint and its base image, one that has the base image, one that has nothing, and one
// that has all and the wrong CPU.
func testNearest(t *testing.T) {
	source, cached, empty := doomed, mortal, shaken.names[0]
	wrong := &fakeNode{name: "node-of-another-cpu"}
	p := newPlacement(t, "nearest", source, cached, empty, wrong.name)
	largest, second, third := p.pod("largest", fmt.Sprintf("-memory=%d", largeMebibytes)), p.pod("second"), p.pod("third")
	before := p.startOn(source, largest, second, third)
	checkpoints := p.leave(source)
	p.uncordon(source)
	p.have(cached, checkpoints)
	p.knows(source, checkpoints[0].Status.Containers[0].BaseImageDigest)
	wrong.join(p.scene, cached, checkpoints[0].Status.Requirements.CPUFeatures)

	if got := p.boundTo(largest, before[0]); got != cached {
		t.Errorf("the first pod went to %q, want %q, which has its checkpoint", got, cached)
	}
	p.cordon(cached)
	wrong.beat(p.scene)
	if got := p.boundTo(second, before[1]); got != source {
		t.Errorf("the second pod went to %q, want %q, which has its base image", got, source)
	}
	p.cordon(source)
	p.cordon(empty)
	wrong.beat(p.scene)
	p.release(third, before[2].UID)
	p.refused(third, func() { wrong.beat(p.scene) }, "1 node(s) whose CPU lacks ", wrong.lacks)
	p.uncordon(empty)
	if after := third.replaced(before[2], moveTimeout); after.Spec.NodeName != empty {
		t.Errorf("the third pod went to %q, want %q", after.Spec.NodeName, empty)
	}
	for i, s := range []*scene{largest, second} {
		s.checkMoved(before[i], s.replaced(before[i], moveTimeout), 1)
	}
}

// testSpread has six pods leave a node at once: one node has their image, which is worth less than a place in the queue there.
func testSpread(t *testing.T) {
	source, cached := doomed, mortal
	p := newPlacement(t, "spread", source, cached, shaken.names[0], shaken.names[1])
	for i := range spreadPods {
		p.pod(fmt.Sprintf("pod-%d", i+1))
	}
	before := p.startOn(source, p.pods...)
	p.pull(cached, p.base)
	checkpoints := p.leave(source)
	p.knows(cached, checkpoints[0].Status.Containers[0].BaseImageDigest)
	for i, s := range p.pods {
		p.release(s, before[i].UID)
	}
	on := map[string]int{}
	for i, s := range p.pods {
		after := s.replaced(before[i], moveTimeout)
		on[after.Spec.NodeName]++
		s.checkMoved(before[i], after, 1)
	}
	t.Logf("pods by their nodes: %v; %s has the image", on, cached)
	if on[cached] == 0 || on[cached] == spreadPods {
		t.Errorf("%d of %d pods went to the one node that has their image, want some of them: %v", on[cached], spreadPods, on)
	}
}

// placement are pods of one namespace, each of a Deployment of its own, with a base image of their own. They are scheduled when the test
// lets them, and among the placement's nodes only.
type placement struct {
	*scene
	nodes []string
	base  string
	pods  []*scene
}

func newPlacement(t *testing.T, name string, nodes ...string) *placement {
	t.Helper()
	p := &placement{scene: newScene(t, name, nil, "main"), nodes: nodes}
	p.base = baseOf(p.scene)
	if err := image.Weigh(t.Context(), onHost(p.Images.Stepper), onHost(p.base), baseMebibytes); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.others("", p.uncordon) })
	return p
}

// pod adds a pod, whose arguments are those of the stepper.
func (p *placement) pod(name string, args ...string) *scene {
	p.t.Helper()
	s := *p.scene
	s.name = name
	container := s.Stepper(name, "main", args...)
	container.Image = p.base
	template := object.ReservedOnly(s.Template(name, container), p.nodes...)
	template.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: gateHeld}}
	s.create(s.Deployment(name, template))
	p.pods = append(p.pods, &s)
	return &s
}

// others does something to all nodes of the placement that the cluster has but one.
func (p *placement) others(but string, do func(node string)) {
	for _, n := range testbed.Cluster.Nodes() {
		if n.Name() != but && slices.Contains(p.nodes, n.Name()) {
			do(n.Name())
		}
	}
}

// startOn cordons all nodes but one and has the pods start there.
func (p *placement) startOn(node string, pods ...*scene) []*corev1.Pod {
	p.t.Helper()
	p.others(node, p.cordon)
	for _, s := range pods {
		p.release(s, "")
	}
	var started []*corev1.Pod
	for _, s := range pods {
		started = append(started, s.settleOn(node))
	}
	return started
}

// leave drains the pods' node, and returns their checkpoints when all of them are claimed. Their replacements are held. The other nodes are
// uncordoned.
func (p *placement) leave(node string) []v1alpha1.PodCheckpoint {
	p.t.Helper()
	names := make([]string, len(p.pods))
	before := make([]*corev1.Pod, len(p.pods))
	for i, s := range p.pods {
		pod, err := testbed.Pod(p.t.Context(), p.Namespace, s.name)
		if err != nil {
			p.t.Fatal(err)
		}
		names[i], before[i] = s.name, pod
	}
	ctx, cancel := p.within(drainTimeout)
	defer cancel()
	selector := fmt.Sprintf("%s in (%s)", object.LabelApp, strings.Join(names, ","))
	if _, err := testbed.Kubectl.Drain(ctx, kubectl.Drain{Node: node, Selector: selector, Timeout: drainTimeout}); err != nil {
		p.t.Fatal(err)
	}
	var checkpoints []v1alpha1.PodCheckpoint
	for i, s := range p.pods {
		checkpoints = append(checkpoints, s.checkpoint(before[i], v1alpha1.PhaseClaimed))
	}
	p.others(node, p.uncordon)
	return checkpoints
}

// have has a node have what checkpoints need, base images and checkpoint images, and tell of them.
func (p *placement) have(node string, checkpoints []v1alpha1.PodCheckpoint) {
	p.t.Helper()
	var images []string
	for _, c := range checkpoints {
		for _, container := range c.Status.Containers {
			p.pull(node, container.BaseImage)
			p.pull(node, container.Image)
			images = append(images, container.BaseImageDigest, container.Image)
		}
	}
	// It tells of all of them at once.
	for _, image := range images {
		p.knows(node, image)
	}
}

func (p *placement) pull(node, ref string) {
	p.t.Helper()
	ctx, cancel := p.within(startTimeout)
	defer cancel()
	n, err := testbed.Cluster.Node(node)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := testbed.PullImage(ctx, n, ref); err != nil {
		p.t.Fatal(err)
	}
}

// knows returns when the node has told of an image, which is given with its digest.
func (p *placement) knows(node, image string) {
	p.t.Helper()
	ctx, cancel := p.within(toldTimeout)
	defer cancel()
	p.until(ctx, func() error { return testbed.Knows(ctx, node, image) })
}

func (p *placement) cordon(node string) {
	p.t.Helper()
	ctx, cancel := p.within(askTimeout)
	defer cancel()
	if err := testbed.Kubectl.Cordon(ctx, node); err != nil {
		p.t.Fatal(err)
	}
}

// release lets the one pod of a Deployment be scheduled that is not of that UID.
func (p *placement) release(s *scene, not types.UID) *corev1.Pod {
	p.t.Helper()
	ctx, cancel := p.within(toldTimeout)
	defer cancel()
	var pod *corev1.Pod
	p.until(ctx, func() (err error) {
		if pod, err = testbed.Pod(ctx, s.Namespace, s.name); err != nil {
			return err
		}
		if pod.UID == not {
			return fmt.Errorf("pod %q was not replaced", pod.Name)
		}
		held := pod.DeepCopy()
		pod.Spec.SchedulingGates = nil
		return testbed.Client.Patch(ctx, pod, client.MergeFrom(held))
	})
	return pod
}

// boundTo releases the replacement of a pod and returns its node once it has one.
func (p *placement) boundTo(s *scene, before *corev1.Pod) string {
	p.t.Helper()
	pod := p.release(s, before.UID)
	ctx, cancel := p.within(moveTimeout)
	defer cancel()
	p.until(ctx, func() error {
		if err := testbed.Client.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		if pod.Spec.NodeName == "" {
			return fmt.Errorf("pod %q has no node: %v", pod.Name, pod.Status.Conditions)
		}
		return nil
	})
	return pod.Spec.NodeName
}

// refused returns when an event on the Deployment's pod says all of that; meanwhile is called again and again until then.
func (p *placement) refused(s *scene, meanwhile func(), says ...string) {
	p.t.Helper()
	pod, err := testbed.Pod(p.t.Context(), s.Namespace, s.name)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := p.within(toldTimeout)
	defer cancel()
	p.until(ctx, func() error {
		meanwhile()
		all, err := testbed.Events(ctx, s.Namespace)
		if err != nil {
			return err
		}
		var seen []string
		for _, e := range all {
			if e.InvolvedObject.UID != pod.UID || e.Reason != "FailedScheduling" {
				continue
			}
			if !slices.ContainsFunc(says, func(part string) bool { return !strings.Contains(e.Message, part) }) {
				p.t.Logf("pod %s: %s", pod.Name, e.Message)
				return nil
			}
			seen = append(seen, e.Message)
		}
		return fmt.Errorf("no event on pod %q says %q: %q", pod.Name, says, seen)
	})
}
