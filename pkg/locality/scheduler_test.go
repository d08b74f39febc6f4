// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	frameworkruntime "k8s.io/kubernetes/pkg/scheduler/framework/runtime"
	"k8s.io/kubernetes/pkg/scheduler/profile"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/locality"
)

// patience is a little more than that of the shipped configuration.
const patience = 61 * time.Second

// hopeless is a little more than the patience where no node can restore the pod.
const hopeless = 11 * time.Second

// running is a whole scheduler with the shipped configuration, over fake core objects and the plugin's own API server.
type running struct {
	*scheduler.Scheduler
	client *fake.Clientset
	clock  *clocktesting.FakeClock
	events chan string
	bound  chan *corev1.Binding
	// versions counts the nodes that the test replaced.
	versions int
}

func startScheduler(t *testing.T, server *apiServer, startup time.Duration, nodes ...*corev1.Node) *running {
	t.Helper()
	return startProfiles(t, server, startup, []config.KubeSchedulerProfile{shippedProfile(t)}, nodes...)
}

func shippedProfile(t *testing.T) config.KubeSchedulerProfile {
	t.Helper()
	c, err := options.LoadConfigFromFile(klog.Background(), filepath.Join("..", "..", "manifests", "scheduler", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Profiles) != 1 || c.Profiles[0].SchedulerName != v1alpha1.SchedulerName {
		t.Fatalf("got the profiles %v, want %q alone", c.Profiles, v1alpha1.SchedulerName)
	}
	return c.Profiles[0]
}

func startProfiles(t *testing.T, server *apiServer, startup time.Duration, profiles []config.KubeSchedulerProfile, nodes ...*corev1.Node) *running {
	t.Helper()
	recorder := events.NewFakeRecorder(1000)
	r := &running{
		client: fake.NewClientset(),
		clock:  clocktesting.NewFakeClock(time.Now()),
		events: recorder.Events,
		bound:  make(chan *corev1.Binding, 10),
	}
	r.client.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "binding" {
			return false, nil, nil
		}
		b := action.(clienttesting.CreateAction).GetObject().(*corev1.Binding)
		r.bound <- b
		return true, b, nil
	})
	for _, n := range nodes {
		if err := r.client.Tracker().Add(n); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	factory := scheduler.NewInformerFactory(r.client, 0, nil)
	var err error
	r.Scheduler, err = scheduler.New(ctx, r.client, factory, nil,
		profile.RecorderFactory(func(string) events.EventRecorderLogger { return recorder }),
		scheduler.WithProfiles(profiles...),
		scheduler.WithKubeConfig(server.config),
		scheduler.WithFrameworkOutOfTreeRegistry(frameworkruntime.Registry{locality.Name: locality.NewTimed(r.clock, startup)}),
	)
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	if err := r.WaitForHandlersSync(ctx); err != nil {
		t.Fatal(err)
	}
	go r.Run(ctx)
	return r
}

func (r *running) create(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	if _, err := r.client.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// awaitRefusal waits for the event that people see in kubectl describe pod.
func (r *running) awaitRefusal(t *testing.T, want string) {
	t.Helper()
	select {
	case e := <-r.events:
		if !strings.HasPrefix(e, "Warning FailedScheduling") || !strings.Contains(e, want) {
			t.Fatalf("got the event %q, want FailedScheduling with %q", e, want)
		}
	case b := <-r.bound:
		t.Fatalf("bound to %q, want a refusal with %q", b.Target.Name, want)
	case <-time.After(20 * time.Second):
		t.Fatalf("no event, want a refusal with %q", want)
	}
}

// awaitBinding waits until a pod is bound, to one of the nodes.
func (r *running) awaitBinding(t *testing.T, nodes ...string) {
	t.Helper()
	select {
	case b := <-r.bound:
		if !slices.Contains(nodes, b.Target.Name) {
			t.Fatalf("bound to %q, want %q", b.Target.Name, nodes)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("not bound, want %q", nodes)
	}
}

const unverifiedSummary = "0/1 nodes are available: 1 node(s) whose agent has not verified restoring by method image."

func TestRefusedPodWakes(t *testing.T) {
	tests := map[string]func(t *testing.T, r *running, server *apiServer){
		"when the node's agent verifies the method": func(_ *testing.T, _ *running, server *apiServer) {
			server.put(newProfile("node", true))
		},
		"when its checkpoint fails": func(_ *testing.T, _ *running, server *apiServer) {
			c := newCheckpoint()
			c.Status.Phase = v1alpha1.PhaseFailed
			server.put(c)
		},
		"when it falls back": func(t *testing.T, r *running, _ *apiServer) {
			pod := restoringPod()
			pod.ResourceVersion = "2" // the fake client counts none, and the scheduler skips what has the same
			pod.Spec.Containers[0].Image = appImage
			pod.Annotations[v1alpha1.AnnotationFellBack] = "criu: no"
			if _, err := r.client.CoreV1().Pods(pod.Namespace).Update(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, happens := range tests {
		t.Run(name, func(t *testing.T) {
			server := startAPIServer(t, newProfile("node", false), newCheckpoint())
			r := startScheduler(t, server, time.Minute, newNode("node"))
			r.create(t, restoringPod())
			r.awaitRefusal(t, unverifiedSummary)
			happens(t, r, server)
			r.awaitBinding(t, "node")
		})
	}
}

func TestRefusedPodLosesPatience(t *testing.T) {
	lacking := newProfile("node", true)
	lacking.Status.CPUFeatures = []string{"sse2"}
	const cpu = "1 node(s) whose CPU lacks avx2 that the checkpoint may use"
	const unverified = "1 node(s) whose agent has not verified restoring by method image"
	young := newNode("node")
	young.CreationTimestamp = metav1.NewTime(time.Now().Add(-time.Minute))
	for name, tc := range map[string]struct {
		profile  *v1alpha1.NodeProfile
		node     *corev1.Node
		refusal  string
		patience time.Duration
		why      string
	}{
		"its node may be able soon": {newProfile("node", false), young, unverified, patience,
			"no node that can restore it had room for it within 1m0s: " + unverified},
		"its node is old":    {newProfile("node", false), newNode("node"), unverified, hopeless, "no node can restore it: " + unverified},
		"its node never can": {lacking, young, cpu, hopeless, "no node can restore it: " + cpu},
	} {
		t.Run(name, func(t *testing.T) {
			server := startAPIServer(t, tc.profile, newCheckpoint())
			r := startScheduler(t, server, time.Minute, tc.node)
			r.create(t, restoringPod())
			r.awaitRefusal(t, tc.refusal)
			r.clock.Step(tc.patience - 2*time.Second)
			r.clock.Step(2 * time.Second)
			r.awaitGivenUp(t, tc.why)
			r.clock.Step(6 * time.Second) // the controllers do nothing here
			r.awaitBinding(t, "node")
		})
	}
}

// TestOnlyNodesOfThePodGiveHope has a young node that could be able soon, but that the pod may not go to.
func TestOnlyNodesOfThePodGiveHope(t *testing.T) {
	lacking := newProfile("node", true)
	lacking.Status.CPUFeatures = []string{"sse2"}
	node, other := newNode("node"), newNode("other")
	node.Labels = map[string]string{"pool": "a"}
	other.CreationTimestamp = metav1.NewTime(time.Now().Add(-time.Minute))
	server := startAPIServer(t, lacking, newCheckpoint())
	r := startScheduler(t, server, time.Minute, node, other)
	pod := restoringPod()
	pod.Spec.NodeSelector = node.Labels
	r.create(t, pod)
	const cpu = "1 node(s) whose CPU lacks avx2 that the checkpoint may use"
	r.awaitRefusal(t, cpu)
	r.clock.Step(hopeless)
	r.awaitGivenUp(t, "no node can restore it: "+cpu)
}

// awaitGivenUp waits for what tells the controllers to send the pod back to its base images, and people why.
func (r *running) awaitGivenUp(t *testing.T, why string) {
	t.Helper()
	const event = "Warning RestoreNotPlaced Not placed to be restored ("
	timeout := time.After(20 * time.Second)
	for told := false; !told; {
		select {
		case e := <-r.events:
			told = strings.HasPrefix(e, event+why+")")
		case b := <-r.bound:
			t.Fatalf("bound to %q before it was given up", b.Target.Name)
		case <-timeout:
			t.Fatalf("no event %q", event+why)
		}
	}
	want := corev1.PodCondition{Type: "checkpoint.io/restore-placed", Status: corev1.ConditionFalse, Reason: "NotPlaced", Message: why}
	for {
		pod, err := r.client.CoreV1().Pods(restoringPod().Namespace).Get(t.Context(), restoringPod().Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			c.LastTransitionTime = metav1.Time{}
			return c == want
		}) {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-timeout:
			t.Fatalf("the pod has the conditions %v, want %v", pod.Status.Conditions, want)
		}
	}
}

func TestRefusedPodWakesWhenItsCheckpointIsDeleted(t *testing.T) {
	profile := newProfile("node", true)
	profile.Status.CPUFeatures = []string{"sse2"}
	server := startAPIServer(t, profile, newCheckpoint())
	r := startScheduler(t, server, time.Minute, newNode("node"))
	r.create(t, restoringPod())
	r.awaitRefusal(t, "1 node(s) whose CPU lacks avx2 that the checkpoint may use.")
	server.remove(newCheckpoint())
	r.awaitBinding(t, "node")
}

func TestRefusedPodTakesANewNode(t *testing.T) {
	server := startAPIServer(t, newProfile("node", false), newProfile("new", true), newCheckpoint())
	r := startScheduler(t, server, time.Minute, newNode("node"))
	r.create(t, restoringPod())
	r.awaitRefusal(t, unverifiedSummary)
	if _, err := r.client.CoreV1().Nodes().Create(t.Context(), newNode("new"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r.awaitBinding(t, "new")
}

func TestImagesThatComeAndGoWakeNobody(t *testing.T) {
	server := startAPIServer(t, newProfile("node", true), newCheckpoint())
	r := startScheduler(t, server, time.Minute, newNode("node"))
	pod := restoringPod()
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8")}
	r.create(t, pod)
	r.awaitRefusal(t, "1 Insufficient cpu")
	server.put(newProfile("node", true, stored("a", appImage, layer("1", mib))))
	select {
	case e := <-r.events:
		t.Errorf("got the event %q, want no attempt: the node can restore what it could before", e)
	case <-time.After(300 * time.Millisecond):
	}
	// The profile of another node that fits is a reason, and shows that the watch is alive.
	server.put(newProfile("other", true))
	r.awaitRefusal(t, "1 Insufficient cpu")
}

func TestSchedulerWithoutCRDs(t *testing.T) {
	server := startAPIServer(t)
	server.missing = true
	r := startScheduler(t, server, time.Millisecond, newNode("node"))
	r.create(t, restoringPod())
	r.awaitBinding(t, "node")
}

func TestRestoringPodPrefersTheBaseImage(t *testing.T) {
	app := appStored()
	server := startAPIServer(t, newProfile("a", true), newProfile("b", true, app), newProfile("c", true), newCheckpoint())
	r := startScheduler(t, server, time.Minute, newNode("a"), newNode("b"), newNode("c"))
	r.create(t, restoringPod())
	r.awaitBinding(t, "b")
}

// TestBatchingStaysOn compares signatures under the shipped profile, with all default plugins, and under the same one without the
// plugin. No pod has a signature as soon as one plugin cannot sign.
func TestBatchingStaysOn(t *testing.T) {
	ours := shippedProfile(t)
	for _, c := range ours.PluginConfig {
		// The default constraints alone keep kube-scheduler from batching.
		if args, ok := c.Args.(*config.PodTopologySpreadArgs); ok {
			args.DefaultingType = config.ListDefaulting
		}
	}
	stock := *ours.DeepCopy()
	stock.SchedulerName = "stock"
	stock.Plugins.MultiPoint.Enabled = slices.DeleteFunc(stock.Plugins.MultiPoint.Enabled, func(p config.Plugin) bool { return p.Name == locality.Name })
	r := startProfiles(t, startAPIServer(t), time.Minute, []config.KubeSchedulerProfile{ours, stock})

	pod := newPod("plain", appImage, nil)
	got := string(r.Profiles[v1alpha1.SchedulerName].SignPod(t.Context(), pod))
	want := string(r.Profiles["stock"].SignPod(t.Context(), pod))
	if want == "" {
		t.Fatal("the stock profile does not sign: this test tells nothing")
	}
	if got != want {
		t.Errorf("a pod that is not opted in is signed %q, without the plugin %q", got, want)
	}
}
