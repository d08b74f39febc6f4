// SPDX-License-Identifier: Apache-2.0

// Package load creates pods at a steady rate, judges each as the API server made it, and deletes it.
package load

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/bench/outage/judge"
)

// The kinds of pods, of which each is told of apart.
const (
	// OptedIn is asked about once more where the first call is passed over.
	OptedIn = "opted in"
	// Once is opted in too, in a namespace that the second call leaves out.
	Once = "opted in, asked once"
	// Other is not opted in.
	Other = "not opted in"
	// Replacement is opted in, and there is one checkpoint for it and another pod that is made at the same time.
	Replacement = "replacement"
)

// turn is what is made in turn: of ten pods.
var turn = []string{OptedIn, OptedIn, Other, OptedIn, Once, OptedIn, OptedIn, Other, OptedIn, Once}

// Namespaces are where the pods are made.
type Namespaces struct{ Usual, Once string }

// Count is what became of the pods of a kind.
type Count struct {
	Made     int
	Verdicts map[judge.Verdict]int
	Restored int
	Took     []time.Duration
}

// Load is pods under way and what became of them.
type Load struct {
	client     client.Client
	namespaces Namespaces

	mu     sync.Mutex
	counts map[string]*Count
	failed []error // creates
	errs   []error // of what is not measured
	wrong  []string
	work   sync.WaitGroup
	delete chan *corev1.Pod
}

// New makes one. Nothing is made yet.
func New(c client.Client, n Namespaces) *Load {
	return &Load{client: c, namespaces: n, counts: map[string]*Count{}, delete: make(chan *corev1.Pod, 1<<16)}
}

// Run makes pods at the rate, by the second, until the time is over, and returns once all were judged and deleted. It does not wait for one
// pod before it makes the next.
func (l *Load) Run(ctx context.Context, rate int, duration time.Duration) {
	var deleters sync.WaitGroup
	for range 8 {
		deleters.Go(func() {
			for pod := range l.delete {
				l.note(client.IgnoreNotFound(l.client.Delete(ctx, pod, client.GracePeriodSeconds(0))))
			}
		})
	}
	began := time.Now()
	for i := 0; ; i++ {
		at := began.Add(time.Duration(i) * time.Second / time.Duration(rate))
		if at.Sub(began) >= duration || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Until(at))
		kind := turn[i%len(turn)]
		l.work.Go(func() { l.make(ctx, kind) })
	}
	l.work.Wait()
	close(l.delete)
	deleters.Wait()
}

// Pod is one of the kind, as users send it.
func Pod(kind, namespace string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-", Namespace: namespace, Labels: map[string]string{"app": "bench"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "app", Image: "registry.test/app:1"}, {Name: "beside", Image: "registry.test/beside:1"},
		}},
	}
	if kind != Other {
		pod.Annotations = map[string]string{v1alpha1.AnnotationEnabled: "true"}
	}
	return pod
}

func (l *Load) make(ctx context.Context, kind string) {
	namespace := l.namespaces.Usual
	if kind == Once {
		namespace = l.namespaces.Once
	}
	if pod := l.create(ctx, kind, Pod(kind, namespace)); pod != nil {
		l.delete <- pod
	}
}

// create makes one pod and judges it; nil where that failed.
func (l *Load) create(ctx context.Context, kind string, pod *corev1.Pod) *corev1.Pod {
	began := time.Now()
	err := l.client.Create(ctx, pod)
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts[kind]
	if c == nil {
		c = &Count{Verdicts: map[judge.Verdict]int{}}
		l.counts[kind] = c
	}
	c.Made++
	c.Took = append(c.Took, took)
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("creating a pod (%s) after %s: %w", kind, took, err))
		return nil
	}
	verdict := judge.Pod(pod, kind != Other)
	c.Verdicts[verdict]++
	if pod.Annotations[v1alpha1.AnnotationRestoreFrom] != "" {
		c.Restored++
	}
	if verdict == judge.Half || verdict == judge.Unasked {
		l.wrong = append(l.wrong, fmt.Sprintf("%s pod %s: %s: %v %v %v", kind, pod.Name, verdict, judge.Marks(pod), pod.Labels, pod.Annotations))
	}
	return pod
}

// note keeps an error of what is not measured.
func (l *Load) note(err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

// wrongly adds a wrong answer that somebody else found.
func (l *Load) wrongly(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// Counts are the counts by kind.
func (l *Load) Counts() map[string]Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]Count{}
	for kind, c := range l.counts {
		all[kind] = *c
	}
	return all
}

// Errors are what went wrong beside the creates.
func (l *Load) Errors() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.errs)
}

// Failed are the creates that failed.
func (l *Load) Failed() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failed)
}

// Wrong are the wrong answers.
func (l *Load) Wrong() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.wrong)
}
