// SPDX-License-Identifier: Apache-2.0

package expiry_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	eventfake "github.com/cryopod/cryopod/pkg/checkpoint/event/fake"
	"github.com/cryopod/cryopod/pkg/checkpoint/expiry"
)

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "o1"}
}

func replicaSet(replicas int32, changes ...func(*appsv1.ReplicaSet)) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{ObjectMeta: meta("cart"), Spec: appsv1.ReplicaSetSpec{Replicas: &replicas}}
	for _, c := range changes {
		c(rs)
	}
	return rs
}

func statefulSet(replicas, first int32) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: meta("cart"), Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, Ordinals: &appsv1.StatefulSetOrdinals{Start: first},
	}}
}

func job(parallelism int32, changes ...func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: meta("cart"), Spec: batchv1.JobSpec{Parallelism: &parallelism}}
	for _, c := range changes {
		c(j)
	}
	return j
}

func is(condition batchv1.JobConditionType) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue}}
	}
}

func completions(n, succeeded int32) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Spec.Completions, j.Status.Succeeded = ptr.To(n), succeeded }
}

// of makes the checkpoint one of a pod of the owner, in a slot.
func of(apiVersion, kind, slot string) func(*v1alpha1.PodCheckpoint) {
	return func(pc *v1alpha1.PodCheckpoint) {
		pc.Status.Owner = &v1alpha1.Owner{UID: "o1", APIVersion: apiVersion, Kind: kind, Name: "cart", Slot: slot}
	}
}

// pods are that many pods of the owner.
func pods(n int, changes ...func(*corev1.Pod)) []corev1.Pod {
	out := make([]corev1.Pod, n)
	for i := range out {
		out[i] = corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "shop", Name: "cart-" + strconv.Itoa(i), UID: types.UID("p" + strconv.Itoa(i)),
				OwnerReferences: []metav1.OwnerReference{{UID: "o1", Controller: ptr.To(true)}},
			},
			Status: corev1.PodStatus{Phase: corev1.PodRunning},
		}
		for _, c := range changes {
			c(&out[i])
		}
	}
	return out
}

func TestNotWanted(t *testing.T) {
	rs, set, batch := of("apps/v1", "ReplicaSet", ""), of("apps/v1", "StatefulSet", "cart-2"), of("batch/v1", "Job", "")
	index := of("batch/v1", "Job", "4")
	for name, tc := range map[string]struct {
		pc    func(*v1alpha1.PodCheckpoint)
		owner client.Object // nil: gone
		pods  []corev1.Pod
		want  string
	}{
		"gone":            {pc: rs, want: "is gone"},
		"made anew":       {pc: rs, owner: replicaSet(3, func(rs *appsv1.ReplicaSet) { rs.UID = "o2" }), want: "is gone"},
		"being deleted":   {pc: rs, owner: replicaSet(3, func(rs *appsv1.ReplicaSet) { rs.DeletionTimestamp = ptr.To(metav1.Now()) }), want: "being deleted"},
		"lacks a pod":     {pc: rs, owner: replicaSet(3), pods: pods(2)},
		"has its pods":    {pc: rs, owner: replicaSet(3), pods: pods(3), want: "has the 3 pod(s)"},
		"pod terminating": {pc: rs, owner: replicaSet(3), pods: pods(3, func(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.Now()) })},
		"pods failed":     {pc: rs, owner: replicaSet(3), pods: pods(3, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })},
		"pods of others":  {pc: rs, owner: replicaSet(3), pods: pods(3, func(p *corev1.Pod) { p.OwnerReferences[0].UID = "o2" })},
		"scaled to 0":     {pc: rs, owner: replicaSet(0), want: `ReplicaSet "cart" was scaled to 0`},
		"rolled out": {
			pc: rs, want: `ReplicaSet "cart" was scaled to 0 by a rollout`,
			owner: replicaSet(0, func(rs *appsv1.ReplicaSet) {
				rs.Annotations = map[string]string{"deployment.kubernetes.io/desired-replicas": "3"}
			}),
		},
		"replicas not set": {pc: rs, owner: &appsv1.ReplicaSet{ObjectMeta: meta("cart")}},

		"set wants it":            {pc: set, owner: statefulSet(3, 0)},
		"set was scaled down":     {pc: set, owner: statefulSet(2, 0), want: "was scaled to 2, which leaves out cart-2"},
		"set begins later":        {pc: set, owner: statefulSet(2, 1)},
		"set begins later still":  {pc: set, owner: statefulSet(2, 3), want: "leaves out cart-2"},
		"set with a strange slot": {pc: of("apps/v1", "StatefulSet", "other"), owner: statefulSet(0, 0)},

		"job lacks a pod":          {pc: batch, owner: job(2), pods: pods(1)},
		"job has its pods":         {pc: batch, owner: job(2), pods: pods(2), want: "has the 2 pod(s)"},
		"job is complete":          {pc: batch, owner: job(2, is(batchv1.JobComplete)), want: "is over (Complete)"},
		"job failed":               {pc: batch, owner: job(2, is(batchv1.JobFailed)), want: "is over (Failed)"},
		"job is suspended":         {pc: batch, owner: job(2, func(j *batchv1.Job) { j.Spec.Suspend = ptr.To(true) }), want: "is suspended"},
		"job needs one more":       {pc: batch, owner: job(5, completions(10, 9))},
		"job needs no more":        {pc: batch, owner: job(5, completions(10, 9)), pods: pods(1), want: "has the 1 pod(s)"},
		"job, all but the report":  {pc: batch, owner: job(5, completions(10, 10)), want: "has the 0 pod(s)"},
		"index wanted":             {pc: index, owner: job(2, func(j *batchv1.Job) { j.Status.CompletedIndexes = "0-3,5,40" })},
		"index waits for its turn": {pc: index, owner: job(2), pods: pods(2)},
		"index completed":          {pc: index, owner: job(2, func(j *batchv1.Job) { j.Status.CompletedIndexes = "1,3-5,7" }), want: "has completed the index 4"},
		"index given up":           {pc: index, owner: job(2, func(j *batchv1.Job) { j.Status.FailedIndexes = ptr.To("4") }), want: "has given up the index 4"},
	} {
		t.Run(name, func(t *testing.T) {
			got := expiry.NotWanted(checkpoint(v1alpha1.PhaseReady, tc.pc), tc.owner, tc.pods)
			if (got == "") != (tc.want == "") || !strings.HasSuffix(got, tc.want) && !strings.Contains(got, tc.want) {
				t.Errorf("NotWanted = %q, want …%s…", got, tc.want)
			}
			if tc.want == `ReplicaSet "cart" was scaled to 0` && got != tc.want {
				t.Errorf("NotWanted = %q, want %q", got, tc.want)
			}
		})
	}
}

func TestNewOwner(t *testing.T) {
	for kind, known := range map[string]bool{
		"apps/v1/ReplicaSet": true, "apps/v1/StatefulSet": true, "batch/v1/Job": true, "v1/ReplicationController": false, "example.com/v1/Job": false,
	} {
		i := strings.LastIndexByte(kind, '/')
		pc := checkpoint(v1alpha1.PhaseReady, of(kind[:i], kind[i+1:], ""))
		if got := expiry.NewOwner(pc.Status.Owner) != nil; got != known {
			t.Errorf("%s is known: %t, want %t", kind, got, known)
		}
	}
	if expiry.NewOwner(nil) != nil {
		t.Error("an owner that is not known has a kind")
	}
}

// TestLooks has a checkpoint wait while its ReplicaSet lacks a pod: three looks, no more, and none while its own pod is there.
func TestLooks(t *testing.T) {
	ctx, pc := context.Background(), checkpoint(v1alpha1.PhaseReady, of("apps/v1", "ReplicaSet", ""))
	pc.UID = "pc"
	own := source("old")
	own.Status.Phase = corev1.PodRunning
	cached := clientWith(t, pc, own)
	reads := 0
	live := interceptor.NewClient(clientWith(t, replicaSet(3)).(client.WithWatch), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, ok := obj.(*appsv1.ReplicaSet); ok {
				reads++
			}
			return c.Get(ctx, key, obj, opts...)
		},
	})
	clock := clocktesting.NewFakePassiveClock(start.Add(2 * time.Minute))
	r := &expiry.Reconciler{Client: cached, Live: live, Events: &eventfake.Recorder{}, Clock: clock, Limits: limits}
	run := func() time.Duration {
		t.Helper()
		result, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pc)})
		if err != nil {
			t.Fatal(err)
		}
		return result.RequeueAfter
	}
	if run(); reads != 0 {
		t.Fatalf("%d reads while the pod is there", reads)
	}
	if err := cached.Delete(ctx, own); err != nil {
		t.Fatal(err)
	}
	gone := clock.Now()
	var at []time.Duration
	for before := 0; clock.Now().Before(gone.Add(30 * time.Minute)); before = reads {
		after := run()
		if reads > before {
			at = append(at, clock.Now().Sub(gone))
		}
		run() // somebody writes something
		clock.SetTime(clock.Now().Add(after))
	}
	if diff := cmp.Diff([]time.Duration{15 * time.Second, time.Minute, 5 * time.Minute}, at); diff != "" {
		t.Errorf("looks (-want +got):\n%s", diff)
	}
	if reads != 3 {
		t.Errorf("%d reads, want 3", reads)
	}
}

func TestReconcileOfSurplus(t *testing.T) {
	ctx, events := context.Background(), &eventfake.Recorder{}
	pc := checkpoint(v1alpha1.PhaseReady, of("apps/v1", "ReplicaSet", ""))
	c := clientWith(t, pc)
	rolledOut := replicaSet(0, func(rs *appsv1.ReplicaSet) {
		rs.Annotations = map[string]string{"deployment.kubernetes.io/desired-replicas": "3"}
	})
	clock := clocktesting.NewFakePassiveClock(start.Add(2 * time.Minute))
	r := &expiry.Reconciler{Client: c, Live: clientWith(t, rolledOut), Events: events, Clock: clock, Limits: limits}
	for range 2 {
		result, err := r.Reconcile(ctx, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pc)})
		if err != nil {
			t.Fatal(err)
		}
		clock.SetTime(clock.Now().Add(result.RequeueAfter))
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(pc), pc); err != nil {
		t.Fatal(err)
	}
	const want = `ReplicaSet "cart" was scaled to 0 by a rollout: no pod stands in for pod "cart-old"`
	if pc.Status.Phase != v1alpha1.PhaseExpired || pc.Status.Message != want {
		t.Errorf("it is %s: %q", pc.Status.Phase, pc.Status.Message)
	}
	if diff := cmp.Diff([]string{"Normal CheckpointNotUsed on cart-1: " + want, "Normal CheckpointNotUsed on cart: " + want}, events.Lines()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
