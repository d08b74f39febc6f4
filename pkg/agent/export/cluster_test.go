// SPDX-License-Identifier: Apache-2.0

package export_test

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/agent/export"
)

// api is an API server that knows namespaces, or is away.
type api struct {
	client.Reader
	failure error
	asked   int
}

func (a *api) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	a.asked++
	if a.failure != nil {
		return a.failure
	}
	obj.(*corev1.Namespace).UID = types.UID("uid-of-" + key.Name)
	return nil
}

func TestCluster(t *testing.T) {
	server := &api{failure: errors.New("away")}
	c := &export.Cluster{Reader: server}
	if got := c.UID(t.Context()); got != "" {
		t.Errorf("while the API server is away: %q", got)
	}
	server.failure = nil
	for range 3 {
		if got, want := c.UID(t.Context()), "uid-of-kube-system"; got != want {
			t.Errorf("UID = %q, want %q", got, want)
		}
	}
	if server.asked != 2 {
		t.Errorf("the API server was asked %d times, want 2", server.asked)
	}
}
