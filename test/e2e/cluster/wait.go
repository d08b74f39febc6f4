// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

const (
	// logLines is how much of a failed part's log an error shows.
	logLines = 20
	// tooManyRestarts is when a program that keeps ending counts as failed.
	tooManyRestarts = 4
	watchInterval   = 250 * time.Millisecond
)

// until calls done until it is true. It is for conditions that nobody announces.
func until(ctx context.Context, what string, done func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// watched calls f with a context that ends when one of the machines ends or one of their programs keeps failing. The
// error then shows that program's log.
func watched(ctx context.Context, machines []*machine.Machine, f func(context.Context) error) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		tick := time.NewTicker(watchInterval)
		defer tick.Stop()
		for {
			select {
			case <-inner.Done():
				return
			case <-tick.C:
				for _, m := range machines {
					if err := failure(inner, m); err != nil {
						cancel(err)
						return
					}
				}
			}
		}
	}()
	err := f(inner)
	// Whatever f then says follows from the failure.
	if cause := context.Cause(inner); err != nil && cause != nil && ctx.Err() == nil {
		return cause
	}
	return err
}

// failure says which part of the machine has failed; nil while none has.
func failure(ctx context.Context, m *machine.Machine) error {
	if !m.Alive() {
		return fmt.Errorf("machine %q has ended; the end of its log:\n%s", m.Spec.Name, m.LogTail("init", logLines))
	}
	// One that does not answer has not come up yet.
	all, _ := m.Status(ctx)
	for _, s := range all {
		if s.Restarts >= tooManyRestarts {
			return fmt.Errorf("%s on %q keeps ending (%s); the end of its log:\n%s",
				s.Name, m.Spec.Name, s.LastExit, m.LogTail(s.Name, logLines))
		}
	}
	return nil
}

// waitAPI returns when the API server says that it is ready.
func waitAPI(ctx context.Context, client kubernetes.Interface) error {
	var last error
	err := until(ctx, "the API server to be ready", func() bool {
		last = client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("%w (%w)", err, last)
	}
	return nil
}

// waitRegistry returns when the registry at the address answers.
func waitRegistry(ctx context.Context, address string) error {
	var last error
	err := until(ctx, "the registry to answer", func() bool {
		last = get(ctx, http.DefaultClient, "http://"+address+"/v2/")
		return last == nil
	})
	if err != nil {
		return fmt.Errorf("%w (%w)", err, last)
	}
	return nil
}

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// waitNodeReady returns when the node has reported since the given time that it is ready.
func waitNodeReady(ctx context.Context, client kubernetes.Interface, name string, since time.Time) error {
	selector := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return client.CoreV1().Nodes().List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return client.CoreV1().Nodes().Watch(ctx, o)
		},
	}
	// Times in the API are whole seconds.
	since = since.Truncate(time.Second)
	_, err := watchtools.UntilWithSync(ctx, lw, &corev1.Node{}, nil, func(e watch.Event) (bool, error) {
		node, ok := e.Object.(*corev1.Node)
		return ok && nodeReady(node, since), nil
	})
	if err != nil {
		return fmt.Errorf("waiting for node %q to be ready: %w", name, err)
	}
	return nil
}

func nodeReady(node *corev1.Node, since time.Time) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue && !c.LastHeartbeatTime.Time.Before(since)
		}
	}
	return false
}
