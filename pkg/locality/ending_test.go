// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/termination"
)

const spot = "aws-node-termination-handler/spot-itn"

// noticed gives the node a notice of two minutes of that age.
func noticed(node *corev1.Node, age time.Duration) *corev1.Node {
	since := time.Now().Add(-age)
	node.Annotations = map[string]string{
		v1alpha1.AnnotationNotice: termination.Notice{Cause: spot, Since: since, Deadline: since.Add(2 * time.Minute)}.Encode(),
	}
	return node
}

func tainted(node *corev1.Node, key string, effect corev1.TaintEffect) *corev1.Node {
	node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key, Effect: effect})
	return node
}

func cordoned(node *corev1.Node) *corev1.Node {
	node.Spec.Unschedulable = true
	return node
}

// leavers are nodes of every kind that something is about to end, and a few that stay.
func leavers() []*corev1.Node {
	forged := newNode("forged")
	forged.Annotations = map[string]string{v1alpha1.AnnotationNotice: "soon"}
	return []*corev1.Node{
		newNode("stays"), forged, tainted(newNode("others"), "example.com/x", corev1.TaintEffectNoExecute),
		noticed(newNode("ends"), time.Minute), noticed(newNode("over"), time.Hour),
		tainted(noticed(newNode("over-evicting"), time.Hour), spot, corev1.TaintEffectNoExecute),
		tainted(newNode("closed"), spot, corev1.TaintEffectNoSchedule),
		tainted(newNode("avoided"), "karpenter.sh/disrupted", corev1.TaintEffectPreferNoSchedule),
		tainted(newNode("gone"), corev1.TaintNodeOutOfService, corev1.TaintEffectNoExecute),
		cordoned(newNode("cordoned")),
		tainted(newNode("cordoned-by-taint"), corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule),
		tainted(cordoned(newNode("cordoned-closed")), "ToBeDeletedByClusterAutoscaler", corev1.TaintEffectNoSchedule),
	}
}

// TestNeverOnNodesThatLeave has the plugin alone, without those that know taints and cordons: as if the pods tolerated all.
func TestNeverOnNodesThatLeave(t *testing.T) {
	const isCordoned = "node(s) that are cordoned, where nothing is restored"
	soon := func(cause string) string { return "node(s) that end soon (" + cause + ")" }
	nodes := leavers()
	everywhere := map[string]string{}
	var profiles []object
	for _, n := range nodes {
		everywhere[n.Name] = ""
		profiles = append(profiles, newProfile(n.Name, n.Name != "over"))
	}
	with := func(reasons, more map[string]string) map[string]string {
		all := maps.Clone(reasons)
		maps.Copy(all, more)
		return all
	}
	announced := with(everywhere, map[string]string{"ends": soon(spot)})
	byCryopod := with(announced, map[string]string{"over-evicting": soon(spot)})
	restored := with(byCryopod, map[string]string{
		"over":   "node(s) whose agent has not verified restoring by method image",
		"closed": soon(spot), "avoided": soon("karpenter.sh/disrupted"), "gone": soon(corev1.TaintNodeOutOfService),
		"cordoned": isCordoned, "cordoned-by-taint": isCordoned, "cordoned-closed": soon("ToBeDeletedByClusterAutoscaler"),
	})
	optedIn := func(pod *corev1.Pod) *corev1.Pod { return inject.OptIn(pod, inject.Options{}) }
	byOwner := optedIn(enabledPod())
	for i := range byOwner.Spec.Tolerations {
		byOwner.Spec.Tolerations[i].TolerationSeconds = nil
	}
	asDaemon := restoringPod()
	asDaemon.Spec.Tolerations = []corev1.Toleration{
		{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		{Key: spot, Operator: corev1.TolerationOpExists},
	}
	fellBack := tolerant(restoringPod())
	fellBack.Annotations[v1alpha1.AnnotationFellBack] = "criu: no"
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		want map[string]string
	}{
		"not opted in":                         {newPod("plain", appImage, nil), everywhere},
		"starts fresh":                         {optedIn(enabledPod()), byCryopod},
		"its owner wants it to stay there":     {byOwner, announced},
		"restores":                             {optedIn(restoringPod()), restored},
		"restores and tolerates everything":    {tolerant(restoringPod()), restored},
		"restores with a daemon's tolerations": {asDaemon, restored},
		"fell back and tolerates everything":   {fellBack, announced},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFramework(t, startAPIServer(t, append(profiles, newCheckpoint())...), time.Minute, nodes...)
			got, _ := place(t, f, tc.pod)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNeverPlacedOnNodesThatLeave is a whole scheduler: of many nodes that have all that the pod needs, it takes the one that stays and has nothing.
func TestNeverPlacedOnNodesThatLeave(t *testing.T) {
	objects := []object{newCheckpoint(), newProfile("stays", true)}
	var nodes []*corev1.Node
	for _, n := range leavers() {
		switch n.Name {
		case "forged", "others", "over":
			continue
		case "stays":
		default:
			n.Status.Images = []corev1.ContainerImage{{Names: []string{appDigest, appImage}, SizeBytes: 900 * mib}}
			objects = append(objects, newProfile(n.Name, true))
		}
		nodes = append(nodes, n)
	}
	r := startScheduler(t, startAPIServer(t, objects...), time.Minute, nodes...)
	r.create(t, tolerant(inject.OptIn(restoringPod(), inject.Options{Scheduler: true})))
	r.awaitBinding(t, "stays")
}

// TestNodesThatLeaveAreWorstWithoutPatience: the plugin refuses a restoring pod no node then, so it has to score.
func TestNodesThatLeaveAreWorstWithoutPatience(t *testing.T) {
	server := startAPIServer(t, newCheckpoint(),
		newProfile("stays", true), newProfile("cordoned", true, appStored()), newProfile("closed", true, appStored()))
	f := newFrameworkWith(t, server, `{"restorePatience":"0s"}`, time.Minute,
		newNode("stays"), cordoned(newNode("cordoned")), tainted(newNode("closed"), spot, corev1.TaintEffectNoSchedule))
	refusals, scores := place(t, f, restoringPod())
	if diff := cmp.Diff(map[string]string{"stays": "", "cordoned": "", "closed": ""}, refusals); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"stays": 100, "cordoned": 0, "closed": 0}, scores); diff != "" {
		t.Errorf("scores (-want +got):\n%s", diff)
	}
}

// TestRestoringPodStartsColdOnACordonedNode has no other node, and a pod that its owner lets go there: it is no worse off than one without a
// checkpoint.
func TestRestoringPodStartsColdOnACordonedNode(t *testing.T) {
	r := startScheduler(t, startAPIServer(t, newProfile("node", true), newCheckpoint()), time.Minute, cordoned(newNode("node")))
	r.create(t, tolerant(restoringPod()))
	const why = "1 node(s) that are cordoned, where nothing is restored"
	r.awaitRefusal(t, why)
	r.clock.Step(hopeless)
	r.awaitGivenUp(t, "no node can restore it: "+why)
	r.clock.Step(6 * time.Second) // the controllers do nothing here
	r.awaitBinding(t, "node")
}

// TestRefusedPodTakesANodeThatStaysAfterAll is a whole scheduler whose only node ends, and then does not.
func TestRefusedPodTakesANodeThatStaysAfterAll(t *testing.T) {
	node := tainted(noticed(newNode("node"), time.Second), spot, corev1.TaintEffectNoExecute)
	r := startScheduler(t, startAPIServer(t), time.Minute, node)
	r.create(t, inject.OptIn(enabledPod(), inject.Options{Scheduler: true}))
	r.awaitRefusal(t, "0/1 nodes are available: 1 node(s) that end soon (aws-node-termination-handler/spot-itn).")
	stays := newNode("node")
	stays.ResourceVersion = "2" // the fake client counts none, and the scheduler skips what has the same
	if _, err := r.client.CoreV1().Nodes().Update(t.Context(), stays, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.awaitBinding(t, "node")
}
