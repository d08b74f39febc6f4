// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package cluster_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// TestCluster brings one cluster up and tries on it everything that other tests rely on.
func TestCluster(t *testing.T) {
	t.Parallel()
	f := start(t, cluster.Options{Name: "smoke", Nodes: 2})
	f.deploy(t, 2)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *fixture)
	}{
		{"pods are spread, reach each other by the Service's name, and the API", testPodNetwork},
		{"logs and exec go through the API server", testLogs},
		{"a pod's ServiceAccount verifies the kubelet", testKubeletCertificate},
		{"the kubelet checkpoints a container", testCheckpoint},
		{"processes of a test are reached from pods and from the host", testProcess},
		{"the shared directory is one on all nodes", testShared},
		{"the registry keeps its content", testRegistry},
		{"a running cluster is attached to", testAttach},
		{"a node cut off comes back", testCutOff},
		{"a frozen node comes back", testFreeze},
		{"containers outlive their runtime and kubelet", testRestart},
		{"a killed node comes back", testKill},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(t, f) }) {
			return
		}
	}
	down(t, f.c.Name())
}

func testPodNetwork(t *testing.T, f *fixture) {
	pods := f.pods(t)
	if pods[0].node == pods[1].node {
		t.Errorf("both pods are on node %q", pods[0].node)
	}
	seen := map[string]bool{}
	for range 40 {
		host, _, _ := strings.Cut(f.probe(t, pods[0].name, "http://probe.default.svc.cluster.local:8080/"), " ")
		seen[host] = true
		if len(seen) == 2 {
			break
		}
	}
	if len(seen) != 2 {
		t.Errorf("the Service led to %v, want both pods", seen)
	}
	if version := f.probe(t, pods[1].name, "https://kubernetes.default.svc/version"); !strings.Contains(version, "v1.37") {
		t.Errorf("a pod got %q from the API server", version)
	}
	f.probe(t, pods[1].name, "http://"+f.c.RegistryName()+"/v2/")
}

func testLogs(t *testing.T, f *fixture) {
	for _, p := range f.pods(t) {
		if logs := f.kubectl(t, "logs", p.name); !strings.Contains(logs, "serving on") {
			t.Errorf("logs of %q: %q", p.name, logs)
		}
	}
}

func testKubeletCertificate(t *testing.T, f *fixture) {
	pod := f.pods(t)[0]
	// The account has no rights there: being told so means that the certificate was good.
	_, err := f.try("exec", pod.name, "--", "/probe", "get", "https://"+f.node(t, pod.node).IP()+":10250/pods")
	if err == nil || !strings.Contains(err.Error(), "403 Forbidden") {
		t.Errorf("asking the kubelet: %v, want 403 Forbidden", err)
	}
}

func testCheckpoint(t *testing.T, f *fixture) {
	pod := f.pods(t)[0]
	// The kubelet's own probe may have a connection open, with which CRIU refuses unless told what to do with it.
	if _, err := f.node(t, pod.node).Exec(t.Context(), "sh", "-c", "mkdir -p /etc/criu && echo tcp-close > /etc/criu/runc.conf"); err != nil {
		t.Fatal(err)
	}
	var answer string
	// One that is just being opened it refuses all the same.
	eventually(t, time.Minute, func() (err error) {
		answer, err = f.try("create", "--raw", fmt.Sprintf("/api/v1/nodes/%s/proxy/checkpoint/default/%s/probe?timeout=60", pod.node, pod.name), "-f", "/dev/null")
		return err
	})
	_, path, ok := strings.Cut(strings.TrimSuffix(strings.TrimSpace(answer), `"]}`), `{"items":["`)
	if !ok {
		t.Fatalf("the kubelet answered %q", answer)
	}
	list, err := f.node(t, pod.node).Exec(t.Context(), "tar", "--list", "--file", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"config.dump", "spec.dump", "checkpoint/pages-1.img"} {
		if !strings.Contains(string(list), want) {
			t.Errorf("the checkpoint lacks %q: %s", want, list)
		}
	}
}

func testProcess(t *testing.T, f *fixture) {
	p, err := f.c.StartProcess(t.Context(), "probe", []string{buildProbe(t), "serve", f.c.ControlPlaneIP() + ":7070"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	address, stop, err := f.c.Forward(t.Context(), f.c.ControlPlaneIP()+":7070")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	eventually(t, time.Minute, func() error { return get(t.Context(), "http://"+address) })
	for _, pod := range f.pods(t) {
		f.probe(t, pod.name, "http://"+f.c.ControlPlaneIP()+":7070/")
	}
	if tail := p.LogTail(5); !strings.Contains(tail, "serving on") {
		t.Errorf("log of the process: %q", tail)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("the process is alive after Stop")
	}
}

func testShared(t *testing.T, f *fixture) {
	nodes := f.c.Nodes()
	if _, err := nodes[0].Exec(t.Context(), "sh", "-c", "echo hello > /mnt/shared/greeting"); err != nil {
		t.Fatal(err)
	}
	got, err := nodes[1].Exec(t.Context(), "cat", "/mnt/shared/greeting")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("hello\n", string(got)); diff != "" {
		t.Errorf("what the other node reads (-want +got):\n%s", diff)
	}
}

func testRegistry(t *testing.T, f *fixture) {
	ref, err := name.NewTag(f.c.RegistryHostAddress()+"/probe:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	before, err := remote.Head(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.c.StopRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(ref); err == nil {
		t.Error("the registry answers after StopRegistry")
	}
	if err := f.c.StartRegistry(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := remote.Head(ref)
	if err != nil {
		t.Fatal(err)
	}
	if before.Digest != after.Digest {
		t.Errorf("digest %v became %v", before.Digest, after.Digest)
	}
}

func testAttach(t *testing.T, f *fixture) {
	again, err := cluster.Up(t.Context(), cluster.Options{Name: f.c.Name(), Nodes: 2})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.c.APIHostAddress(), again.APIHostAddress()); diff != "" {
		t.Errorf("API server after the second Up (-first +second):\n%s", diff)
	}
	if _, err := cluster.Attach(t.Context(), f.c.Name()); err != nil {
		t.Error(err)
	}
}

func testCutOff(t *testing.T, f *fixture) {
	node := f.c.Nodes()[1]
	if err := node.CutOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.kubelet(t, node); err == nil {
		t.Error("the kubelet of a node cut off answers")
	}
	if _, err := node.Exec(t.Context(), "true"); err != nil {
		t.Errorf("a node cut off does not run programs: %v", err)
	}
	if err := node.Reconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error { return f.kubelet(t, node) })
}

func testFreeze(t *testing.T, f *fixture) {
	node := f.c.Nodes()[1]
	if err := node.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.kubelet(t, node); err == nil {
		t.Error("the kubelet of a frozen node answers")
	}
	if err := node.Thaw(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error { return f.kubelet(t, node) })
}

func testRestart(t *testing.T, f *fixture) {
	before := f.pods(t)
	node := f.node(t, before[0].node)
	if err := node.RestartRuntime(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := node.RestartKubelet(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, f.pods(t), cmp.AllowUnexported(pod{})); diff != "" {
		t.Errorf("pods (-before +after):\n%s", diff)
	}
}

func testKill(t *testing.T, f *fixture) {
	before := f.pods(t)[0]
	node := f.node(t, before.node)
	if err := node.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if node.Running() {
		t.Error("a killed node runs")
	}
	left, err := cluster.Leftovers(f.c.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range left {
		if strings.Contains(l, "/"+node.Name()) {
			t.Errorf("left of the killed node: %s", l)
		}
	}
	if err := node.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error {
		for _, p := range f.pods(t) {
			if p.name == before.name && p.restarts > before.restarts && p.ready {
				return nil
			}
		}
		return fmt.Errorf("pod %q has not started again", before.name)
	})
	f.probe(t, before.name, "http://probe:8080/")
}

// TestContainerdVersions runs a pod on the containerd versions that are not the default.
func TestContainerdVersions(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2.4.2", "2.1.9"} {
		t.Run(version, func(t *testing.T) {
			if version == "2.1.9" && testing.Short() {
				t.Skip("the oldest version takes a minute to build")
			}
			f := start(t, cluster.Options{Name: "smoke-" + strings.ReplaceAll(version, ".", "-"), Nodes: 1, ContainerdVersion: version})
			f.deploy(t, 1)
			got := f.kubectl(t, "get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.containerRuntimeVersion}")
			if diff := cmp.Diff("containerd://"+version, got); diff != "" {
				t.Errorf("runtime (-want +got):\n%s", diff)
			}
			testCheckpoint(t, f)
			down(t, f.c.Name())
		})
	}
}

// TestSideBySide runs two clusters with the same inner addresses.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	a := start(t, cluster.Options{Name: "smoke-a", Nodes: 1})
	b := start(t, cluster.Options{Name: "smoke-b", Nodes: 1})
	a.kubectl(t, "create", "configmap", "mine")
	if _, err := b.try("get", "configmap", "mine"); err == nil {
		t.Error("one cluster shows the other one's objects")
	}
	down(t, a.c.Name())
	b.kubectl(t, "get", "nodes")
	down(t, b.c.Name())
}

// get asks a URL from the host.
func get(ctx context.Context, url string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	answer := make([]byte, 12)
	if _, err := conn.Read(answer); err != nil {
		return err
	}
	if string(answer) != "HTTP/1.0 200" {
		return fmt.Errorf("answer %q", answer)
	}
	return nil
}
