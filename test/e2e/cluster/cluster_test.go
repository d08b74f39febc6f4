// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/test/e2e/cluster"
)

func TestOptions(t *testing.T) {
	for name, test := range map[string]struct {
		options cluster.Options
		want    string
	}{
		"zero value":      {cluster.Options{}, ""},
		"path as a name":  {cluster.Options{Name: "../etc"}, `cluster name "../etc"`},
		"upper case":      {cluster.Options{Name: "Dev"}, `cluster name "Dev"`},
		"ends in a dash":  {cluster.Options{Name: "dev-"}, `cluster name "dev-"`},
		"negative number": {cluster.Options{Nodes: -1}, "number of nodes -1"},
		"too many nodes":  {cluster.Options{Nodes: 51}, "number of nodes 51"},
	} {
		t.Run(name, func(t *testing.T) {
			err := cluster.ValidateOptions(test.options)
			if test.want == "" && err != nil {
				t.Errorf("unexpected error: %v", err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestFeatureGateFlag(t *testing.T) {
	got := cluster.FeatureGateFlag(cluster.Options{FeatureGates: map[string]bool{"B": false, "A": true}})
	if diff := cmp.Diff("A=true,B=false", got); diff != "" {
		t.Errorf("flag (-want +got):\n%s", diff)
	}
}

func TestContainerdConfig(t *testing.T) {
	for version, want := range map[string]bool{"2.1.9": false, "2.2.7": true, "2.3.7": true, "2.4.2": false} {
		got := strings.Contains(cluster.ContainerdConfig(version), "enable_experimental_restore_via_create = true")
		if got != want {
			t.Errorf("containerd %s has the switch for restoring: %t, want %t", version, got, want)
		}
	}
}

func TestAttachWithoutCluster(t *testing.T) {
	t.Setenv(cluster.StateVariable, t.TempDir())
	if _, err := cluster.Attach(t.Context(), "none"); !errors.Is(err, cluster.ErrNotRunning) {
		t.Errorf("attaching: %v, want ErrNotRunning", err)
	}
}

func TestLock(t *testing.T) {
	base := t.TempDir()
	release, forget, held, err := cluster.Hold(base, "dev")
	if err != nil || !held {
		t.Fatalf("taking a free lock: %t, %v", held, err)
	}
	if _, _, again, err := cluster.Hold(base, "dev"); again || err != nil {
		t.Errorf("taking a lock that is held: %t, %v", again, err)
	}
	if other, _, held, err := cluster.Hold(base, "ci"); !held || err != nil {
		t.Errorf("taking another cluster's lock: %t, %v", held, err)
	} else {
		other()
	}
	forget()
	if _, err := os.Stat(base + "/dev.lock"); !os.IsNotExist(err) {
		t.Errorf("the lock after it was forgotten: %v", err)
	}
	// The file is gone, so somebody else may have a new one, although the old one is still locked.
	next, _, held, err := cluster.Hold(base, "dev")
	if err != nil || !held {
		t.Fatalf("taking the lock anew: %t, %v", held, err)
	}
	next()
	release()
}
