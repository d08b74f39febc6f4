// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// place has the scheduler place a pod; false: it has to wait.
func (d *day) place(p *pod) bool {
	if d.failed != nil {
		return true
	}
	name, err := d.placer.place(d.ctx, p.object)
	if err != nil {
		d.must(err)
		return true
	}
	if name == "" {
		return false
	}
	d.bind(p, d.byName[name])
	return true
}

// retry tries the pods that wait, the oldest first.
func (d *day) retry() {
	waiting := d.pending
	d.pending = nil
	for _, p := range waiting {
		if !p.over && !d.place(p) {
			d.pending = append(d.pending, p)
		}
	}
}

// bind puts a pod onto a node, whose kubelet pulls what it needs and starts it.
func (d *day) bind(p *pod, n *node) {
	p.node = n
	n.pods[p] = true
	n.requested += p.app.cpu
	d.change(p, func(o *corev1.Pod) { o.Spec.NodeName = n.name })

	ready, pulled := n.pull(d.now, p.image)
	s := n.images[p.image.digest]
	s.pods++
	s.used = d.now
	var fetched int64
	if p.restores {
		fetched = p.app.pushed
		ready = max(ready, n.fetch(d.now, fetched))
		ready += time.Duration(float64(p.app.saved) / n.shape.restoring * float64(time.Second))
	}
	if d.now >= d.warmup {
		d.sums.placed(p, pulled, fetched)
	}
	if pulled > 0 {
		d.at(s.ready, func() { d.tell(n) })
	}
	d.at(ready+startTime, func() { d.run(p) })
}

// run is a pod's first moment as a running one.
func (d *day) run(p *pod) {
	if p.over {
		return
	}
	p.runs = true
	d.change(p, func(o *corev1.Pod) { o.Status.Phase = corev1.PodRunning })
	if p.restores {
		d.must(d.placer.checkpoints.remove(metav1.NamespaceDefault, p.name))
	}
	if p.made >= d.warmup {
		d.sums.ran(p, d.now-p.made)
	}
	d.reconcile(p.app)
}

// change has the scheduler see a pod changed.
func (d *day) change(p *pod, change func(*corev1.Pod)) {
	p.object = p.object.DeepCopy()
	change(p.object)
	d.must(d.placer.pods.set(p.object))
}

// evict ends a pod of a node that is drained or goes. One that runs leaves a checkpoint.
func (d *day) evict(p *pod, n *node) {
	if p.over || p.node != n {
		return
	}
	if p.runs && !n.gone {
		p.app.waiting = append(p.app.waiting, p.image)
	}
	d.remove(p)
	d.reconcile(p.app)
}

// remove deletes a pod.
func (d *day) remove(p *pod) {
	p.over = true
	p.app.pods = slices.DeleteFunc(p.app.pods, func(other *pod) bool { return other == p })
	if p.restores && !p.runs {
		d.must(d.placer.checkpoints.remove(metav1.NamespaceDefault, p.name))
	}
	n := p.node
	if n == nil {
		return
	}
	delete(n.pods, p)
	n.requested -= p.app.cpu
	s := n.images[p.image.digest]
	s.pods--
	s.used = d.now
	d.must(d.placer.pods.remove(p.object.Namespace, p.name))
	if !n.leaving && len(d.pending) > 0 {
		// Not from within what is being done: the pods there are about to change.
		d.at(d.now, d.retry)
	}
}

// sorted are the node's pods in a fixed order.
func (n *node) sorted() []*pod {
	return slices.SortedFunc(maps.Keys(n.pods), func(a, b *pod) int { return strings.Compare(a.name, b.name) })
}
