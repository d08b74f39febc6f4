// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
)

// User is somebody who acts on the cluster. What a user asks for may fail.
type User struct {
	*Proc
}

func (w *World) newUser(i int, act func(*User)) {
	p := w.newProc(fmt.Sprintf("user %d", i+1), clientFaults, false)
	w.users++
	go func() {
		act(&User{p})
		w.mu.Lock()
		w.usersEnded++
		w.changed = true
		w.mu.Unlock()
		w.poke()
	}()
}

// After waits.
func (u *User) After(span time.Duration) { _ = u.sleep(u.ctx, span) }

// agentGrace is what a stopped agent gets.
const agentGrace = 20 * time.Second

// drainPause is what kubectl drain leaves between two tries.
const drainPause = 5 * time.Second

// Drain evicts a pod as kubectl drain does, and gives up when it was put off so many times; 0: never.
func (u *User) Drain(pod string, patience int) {
	u.ask(patience, func() error { return u.evict(u.ctx, pod, nil) })
}

// Delete deletes a pod as that user, and gives up when it was put off so many times; 0: never.
func (u *User) Delete(user, pod string, patience int) {
	u.ask(patience, func() error {
		return u.deletePod(u.ctx, user, pod, &metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](5)})
	})
}

// ask asks until it is granted, or there is nothing to ask for any more.
func (u *User) ask(patience int, request func() error) {
	for refused := 0; ; u.After(drainPause) {
		err := request()
		if apierrors.IsTooManyRequests(err) {
			refused++
			u.w.promised = u.w.promised || strings.Contains(err.Error(), "as soon as it is saved")
		}
		if err == nil || apierrors.IsNotFound(err) || refused > 0 && refused == patience {
			return
		}
	}
}

// Taint adds a taint to the node.
func (u *User) Taint(node string, taint corev1.Taint) {
	u.change(node, "taints "+node+" with "+taint.Key, func(n *corev1.Node) { n.Spec.Taints = append(n.Spec.Taints, taint) })
}

// Untaint removes all taints.
func (u *User) Untaint(node string) {
	u.change(node, "untaints "+node, func(n *corev1.Node) { n.Spec.Taints = nil })
}

// Unreachable is what the node controller writes when it does not hear of a node any more, and the taint manager after that: the node's
// pods are deleted where evict is true.
func (u *User) Unreachable(node string) {
	u.change(node, "finds that "+node+" is not heard of", func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute})
	})
}

func (u *User) change(node, what string, change func(*corev1.Node)) {
	_ = u.insist(what, func() error {
		n, ok := u.w.objects[ref{"Node", client.ObjectKey{Name: node}}].(*corev1.Node)
		if !ok {
			return nil
		}
		next := n.DeepCopy()
		change(next)
		u.w.put(next)
		return nil
	})
}

// insist does something until it succeeds.
func (u *User) insist(what string, effect func() error) error {
	for {
		err := u.do(u.ctx, write, what, effect)
		if err == nil || apierrors.IsNotFound(err) {
			return err
		}
		u.After(time.Second)
	}
}

// DeleteNode deletes the node's object.
func (u *User) DeleteNode(node string) {
	_ = u.insist("deletes the object of node "+node, func() error {
		u.w.remove(ref{"Node", client.ObjectKey{Name: node}})
		return nil
	})
}

// Collect is what Kubernetes's collector of orphaned pods does once it has seen that the node of the pod is gone.
func (u *User) Collect(pod string) {
	_ = u.insist("marks pod "+pod+" as orphaned", func() error {
		cur := u.w.pod(key(pod))
		if cur == nil {
			return nil
		}
		next := cur.DeepCopy()
		next.Status.Phase = corev1.PodFailed
		next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "DeletionByPodGC", LastTransitionTime: second(metav1.Now()),
		})
		u.w.put(next)
		return nil
	})
	u.Force(pod)
}

// Force deletes the pod without waiting for its kubelet.
func (u *User) Force(pod string) {
	_ = u.insist("deletes pod "+pod+" by force", func() error {
		return u.w.deleteObject(ref{"Pod", key(pod)}, &client.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
	})
}

// Terminate deletes the pod plainly, as the taint manager does.
func (u *User) Terminate(pod string) {
	_ = u.insist("deletes pod "+pod, func() error {
		return u.w.deleteObject(ref{"Pod", key(pod)}, &client.DeleteOptions{})
	})
}

// PowerOff cuts the node's power.
func (u *User) PowerOff(node string) {
	_ = u.do(u.ctx, read, "cuts the power of "+node, func() error {
		w, n := u.w, u.w.node(node)
		n.off = true
		for _, c := range n.containers {
			if c.state != fence.Gone {
				c.become(fence.Gone)
			}
		}
		if w.agent != nil && w.agent.n == n && !w.agent.gone() {
			w.stopAgent()
		}
		return nil
	})
}

// Save makes a PodCheckpoint without a fence, as the schedule does.
func (u *User) Save(pod string, attempt int) {
	_ = u.insist("has pod "+pod+" saved on schedule", func() error {
		cur := u.w.pod(key(pod))
		if cur == nil || cur.DeletionTimestamp != nil {
			return nil
		}
		_, err := u.w.create(match.NewCheckpoint(cur, match.Request{Attempt: attempt, Reason: v1alpha1.ReasonSchedule}))
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
}

// Scale has the owner want so many pods.
func (u *User) Scale(pods int) {
	_ = u.insist(fmt.Sprintf("scales the owner to %d", pods), func() error {
		r := ref{"ReplicaSet", key(ownerName)}
		if rs, ok := u.w.objects[r].(*appsv1.ReplicaSet); ok {
			next := rs.DeepCopy()
			next.Spec.Replicas = ptr.To(int32(pods))
			u.w.put(next)
		}
		u.w.wanted = pods
		u.w.wake()
		return nil
	})
}

// DeleteCheckpoints deletes all PodCheckpoints.
func (u *User) DeleteCheckpoints() {
	_ = u.insist("deletes all PodCheckpoints", func() error {
		for _, pc := range u.w.checkpoints() {
			u.w.remove(refOf(pc))
		}
		return nil
	})
}

// ForceReplacements deletes all pods but the source by force.
func (u *User) ForceReplacements() {
	_ = u.insist("deletes all replacements by force", func() error {
		for _, pod := range u.w.pods() {
			if pod.UID != u.w.script.sourceUID {
				u.w.remove(refOf(pod))
			}
		}
		return nil
	})
}

// CutOff cuts a node off from the API server.
func (u *User) CutOff(node string, span time.Duration) {
	_ = u.do(u.ctx, read, fmt.Sprintf("cuts %s off for %s", node, span), func() error {
		u.w.cutNode(u.w.node(node), span)
		return nil
	})
}

// Heard is what the node controller writes when it hears of the node again.
func (u *User) Heard(node string) {
	u.change(node, "hears of "+node+" again", func(n *corev1.Node) {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		n.Spec.Taints = nil
	})
}

// StopAgent stops the agent as a rolling update does: it may tidy up, and its successor begins when it has ended.
func (u *User) StopAgent() {
	w := u.w
	_ = u.do(u.ctx, read, "stops the agent", func() error {
		a := w.agent
		if a.gone() {
			return nil
		}
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), agentGrace)
			defer cancel()
			a.r.Stop(ctx)
			w.at(time.Now(), func() {
				if !a.gone() {
					w.crash(a.Proc, soon)
				}
			})
			w.poke()
		}()
		return nil
	})
}
