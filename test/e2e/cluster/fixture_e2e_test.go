// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/image"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
)

const probePackage = "github.com/cryopod/cryopod/test/e2e/cluster/cmd/probe"

// fixture is a running cluster with its kubectl.
type fixture struct {
	c    *cluster.Cluster
	tool kubectl.Tool
}

// pod is what the tests compare of a pod.
type pod struct {
	name, node string
	restarts   int32
	ready      bool
}

type progress struct{ t *testing.T }

func (p progress) Write(line []byte) (int, error) {
	p.t.Log(strings.TrimSpace(string(line)))
	return len(line), nil
}

// start brings a cluster up, over what an earlier run left, and removes it when the test ends, whatever became of it.
func start(t *testing.T, o cluster.Options) *fixture {
	t.Helper()
	o.Progress = progress{t}
	began := time.Now()
	c, err := cluster.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Down(context.WithoutCancel(t.Context()), o.Name); err != nil {
			t.Error(err)
		}
	})
	t.Logf("up in %s", time.Since(began).Round(time.Millisecond))
	return &fixture{c: c, tool: kubectl.Tool{Path: c.Kubectl(), Kubeconfig: c.Kubeconfig()}}
}

// down removes a cluster and checks that nothing is left.
func down(t *testing.T, name string) {
	t.Helper()
	began := time.Now()
	if err := cluster.Down(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 45*time.Second {
		t.Errorf("Down took %s", took)
	}
	left, err := cluster.Leftovers(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left after Down: %q", left)
	}
}

func (f *fixture) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return f.tool.Run(ctx, args...)
}

func (f *fixture) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := f.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// probe asks a URL from within a pod.
func (f *fixture) probe(t *testing.T, podName, url string) string {
	t.Helper()
	var out string
	// A Service's rules take a moment to reach the nodes.
	eventually(t, 15*time.Second, func() (err error) {
		out, err = f.try("exec", podName, "--", "/probe", "get", url)
		return err
	})
	return out
}

// kubelet asks a node's kubelet, by way of the API server, whether it is well.
func (f *fixture) kubelet(t *testing.T, n *cluster.Node) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := f.tool.Run(ctx, "get", "--raw", "/api/v1/nodes/"+n.Name()+"/proxy/healthz")
	return err
}

func (f *fixture) node(t *testing.T, name string) *cluster.Node {
	t.Helper()
	n, err := f.c.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// pods lists the probe's pods by name.
func (f *fixture) pods(t *testing.T) []pod {
	t.Helper()
	var list corev1.PodList
	if err := json.Unmarshal([]byte(f.kubectl(t, "get", "pods", "-l", "app=probe", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	var all []pod
	for _, p := range list.Items {
		one := pod{name: p.Name, node: p.Spec.NodeName}
		for _, s := range p.Status.ContainerStatuses {
			one.restarts, one.ready = s.RestartCount, s.Ready
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b pod) int { return strings.Compare(a.name, b.name) })
	return all
}

// deploy runs the probe in pods, one on each node, behind a Service.
func (f *fixture) deploy(t *testing.T, replicas int) {
	t.Helper()
	img, err := image.GoBinary(t.Context(), probePackage, "probe")
	if err != nil {
		t.Fatal(err)
	}
	if err := image.Push(t.Context(), img, f.c.RegistryHostAddress()+"/probe:1"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "probe.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, manifest, replicas, f.c.RegistryName()), 0o600); err != nil {
		t.Fatal(err)
	}
	f.kubectl(t, "apply", "-f", path)
	if out, err := f.try("rollout", "status", "deployment/probe", "--timeout=50s"); err != nil {
		described, _ := f.try("describe", "pods")
		t.Fatalf("%s: %v\n%s", out, err, described)
	}
}

// manifest turns off what CRIU can't save (MPTCP), and asks for a restart at once after a node was killed.
const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: probe}
spec:
  replicas: %d
  selector: {matchLabels: {app: probe}}
  template:
    metadata: {labels: {app: probe}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: probe}}}
      containers:
      - name: probe
        image: %s/probe:1
        command: ["/probe", "serve", ":8080"]
        env: [{name: GODEBUG, value: multipathtcp=0}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: probe}
spec:
  selector: {app: probe}
  ports: [{port: 8080}]
`

func buildProbe(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, probePackage).CombinedOutput(); err != nil {
		t.Fatalf("building the probe: %v: %s", err, out)
	}
	return path
}

// eventually tries until there is no error.
func eventually(t *testing.T, patience time.Duration, try func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s still: %v", patience, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
