// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// app is a Deployment.
type app struct {
	*owner
	name    string
	image   *image
	want    int
	pods    []*pod
	waiting []*image // checkpoints that wait for a pod, each by the image that it was made of
}

// pod is one of an app.
type pod struct {
	app      *app
	name     string
	image    *image
	restores bool
	object   *corev1.Pod
	made     time.Duration
	node     *node
	runs     bool
	over     bool
}

func newApp(i int, o *owner) *app {
	return &app{owner: o, name: fmt.Sprintf("app-%d", i), image: o.first}
}

// service selects the app's pods: so the scheduler spreads them as it spreads any others.
func (a *app) service() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: a.name},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": a.name}},
	}
}

// scale sets how many pods an app wants by the time of day.
func (d *day) scale(a *app) {
	a.want = a.replicas
	if a.swings {
		a.want = max(1, int(math.Round(float64(a.replicas)*swing(d.clock(d.now)))))
	}
	d.reconcile(a)
}

// reconcile does what a Deployment's controllers do, with a quarter of the pods in excess and a quarter missing at most while it rolls out.
func (d *day) reconcile(a *app) {
	surge, unavailable := (a.want+3)/4, a.want/4
	for {
		var current, old, running int
		for _, p := range a.pods {
			if p.image == a.image {
				current++
			} else {
				old++
			}
			if p.runs {
				running++
			}
		}
		switch {
		case current < a.want && current+old < a.want+surge:
			d.create(a)
		case old > 0 && (running > a.want-unavailable || a.idle()):
			d.remove(surplus(a.pods, func(p *pod) bool { return p.image != a.image }))
		case old == 0 && current > a.want:
			d.remove(surplus(a.pods, func(*pod) bool { return true }))
		default:
			return
		}
	}
}

// idle reports whether there is a pod of a former image that does not run: to end it costs nothing.
func (a *app) idle() bool {
	return slices.ContainsFunc(a.pods, func(p *pod) bool { return !p.runs && p.image != a.image })
}

// surplus is the pod that a ReplicaSet gives up first: one that does not run, one with most others of its owner on the node, the youngest.
func surplus(all []*pod, may func(*pod) bool) *pod {
	beside := map[*node]int{}
	for _, p := range all {
		beside[p.node]++
	}
	return slices.MinFunc(slices.DeleteFunc(slices.Clone(all), func(p *pod) bool { return !may(p) }), func(a, b *pod) int {
		if a.runs != b.runs {
			if b.runs {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(beside[b.node], beside[a.node]), cmp.Compare(b.made, a.made), cmp.Compare(b.name, a.name))
	})
}

// create makes a pod of the app's present image, from a checkpoint where one waits. Checkpoints of former images are nobody's any more.
func (d *day) create(a *app) {
	d.count++
	p := &pod{app: a, name: fmt.Sprintf("%s-%d", a.name, d.count), image: a.image, made: d.now}
	a.waiting = slices.DeleteFunc(a.waiting, func(i *image) bool { return i != a.image })
	if len(a.waiting) > 0 {
		a.waiting, p.restores = a.waiting[1:], true
		d.must(d.placer.checkpoints.set(p.checkpoint()))
	}
	p.object = p.desired()
	a.pods = append(a.pods, p)
	if !d.place(p) {
		d.pending = append(d.pending, p)
	}
}

// desired is the pod as the API server has it, before it is bound. It names its base image also where it restores: the scheduler's own ImageLocality
// would not know it otherwise, and the plugin does not need it.
func (p *pod) desired() *corev1.Pod {
	annotations := map[string]string{v1alpha1.AnnotationEnabled: "true"}
	if p.restores {
		annotations[v1alpha1.AnnotationRestoreFrom] = p.name
		annotations[v1alpha1.AnnotationBaseImages] = fmt.Sprintf(`{"app":%q}`, p.image.name)
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault, Name: p.name, UID: types.UID(p.name),
			Labels: map[string]string{"app": p.app.name}, Annotations: annotations,
		},
		Spec: corev1.PodSpec{
			SchedulerName: v1alpha1.SchedulerName,
			Containers: []corev1.Container{{
				Name: "app", Image: p.image.name,
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU:    *resource.NewMilliQuantity(p.app.cpu, resource.DecimalSI),
					corev1.ResourceMemory: *resource.NewQuantity(p.app.memory, resource.BinarySI),
				}},
			}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
}

func (p *pod) checkpoint() *v1alpha1.PodCheckpoint {
	tag := "registry.test/checkpoints/default:" + p.name
	needs := able
	return &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: p.name},
		Status: v1alpha1.PodCheckpointStatus{
			Phase: v1alpha1.PhaseClaimed, Requirements: &needs,
			Containers: []v1alpha1.ContainerCheckpoint{{
				Name: "app", BaseImage: p.image.name, BaseImageDigest: p.image.byDigest(), ImageTag: tag,
				Image: "registry.test/checkpoints/default@" + digestOf(tag), Bytes: p.app.saved, PushedBytes: p.app.pushed,
			}},
		},
	}
}
