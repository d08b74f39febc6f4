// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/apiserver"
)

// runMain, in the environment, makes this test binary be the command itself.
const runMain = "CRYOPOD_TEST_RUN_SCHEDULER"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const (
	appImage  = "registry.test/app:1"
	appDigest = "registry.test/app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// cluster is a real API server with the manifests applied, fake nodes, and the scheduler running as its ServiceAccount.
type cluster struct {
	*apiserver.Server
	admin client.Client
	port  int
}

func TestScheduler(t *testing.T) {
	c := start(t)
	c.node(t, "verified-soon", false)
	c.node(t, "cached", false, v1alpha1.NodeImage{Name: appDigest, Bytes: 300 << 20})

	t.Run("holds its Lease", func(t *testing.T) {
		c.await(t, "the Lease's holder", func(ctx context.Context) (string, bool, error) {
			var lease coordinationv1.Lease
			err := c.admin.Get(ctx, client.ObjectKey{Namespace: "cryopod-system", Name: v1alpha1.SchedulerName}, &lease)
			return "", err == nil && lease.Spec.HolderIdentity != nil, client.IgnoreNotFound(err)
		})
	})
	t.Run("a fresh pod goes where its image is", func(t *testing.T) {
		c.awaitNode(t, c.pod(t, "fresh", appDigest, map[string]string{v1alpha1.AnnotationEnabled: "true"}), "cached")
	})
	t.Run("a restoring pod waits for a node that has verified restoring", func(t *testing.T) {
		c.checkpoint(t, "counter-1")
		pod := c.pod(t, "restoring", "registry.test/checkpoints/default:counter", map[string]string{
			v1alpha1.AnnotationEnabled:     "true",
			v1alpha1.AnnotationRestoreFrom: "counter-1",
			v1alpha1.AnnotationBaseImages:  `{"app":"` + appImage + `"}`,
		})
		c.awaitMessage(t, pod, "0/2 nodes are available: 2 node(s) whose agent has not verified restoring by method image.")
		c.profile(t, "verified-soon", true)
		c.awaitNode(t, pod, "verified-soon")
	})
	t.Run("its metrics are served", func(t *testing.T) {
		got := c.metrics(t)
		for _, want := range []string{
			`cryopod_scheduler_decisions_total{outcome="checked"} 2`,
			`cryopod_scheduler_refusals_total{reason="method_unverified"} 3`,
		} {
			if !strings.Contains(got, want) {
				t.Errorf("/metrics lacks %s", want)
			}
		}
	})
}

func start(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{Server: apiserver.Start(t), port: freePort(t)}
	var err error
	if c.admin, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	admin := c.kubeconfig(t, filepath.Join(dir, "admin"), "")
	c.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cryopod-system"}})
	manifests := filepath.Join(c.Checkout, "manifests", "scheduler")
	if out, err := exec.CommandContext(t.Context(), c.Kubectl, "--kubeconfig", admin, "apply", "-k", manifests).CombinedOutput(); err != nil {
		t.Fatalf("applying %q: %v\n%s", manifests, err, out)
	}
	shipped, err := os.ReadFile(filepath.Join(manifests, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := c.kubeconfig(t, filepath.Join(dir, "scheduler"), "system:serviceaccount:cryopod-system:cryopod-scheduler")
	config := filepath.Join(dir, "config.yaml")
	shipped = fmt.Appendf(shipped, "clientConnection:\n  kubeconfig: %s\n", kubeconfig)
	if err := os.WriteFile(config, shipped, 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, "--config="+config, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", c.port),
		"--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig)
	return c
}

// run starts the command with the arguments; it ends before the API server does.
func (c *cluster) run(t *testing.T, args ...string) {
	t.Helper()
	command := exec.Command(os.Args[0], args...)
	command.Env = append(os.Environ(), runMain+"=1")
	var log strings.Builder
	command.Stdout, command.Stderr = &log, &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(os.Interrupt)
		_ = command.Wait()
		if strings.Contains(log.String(), "forbidden") {
			t.Error("the manifests' RBAC lacks something that the scheduler asked for")
		}
		if t.Failed() {
			t.Logf("the scheduler's log:\n%s", log.String())
		}
	})
}

// kubeconfig writes the administrator's, who acts as the user unless that is empty.
func (c *cluster) kubeconfig(t *testing.T, file, user string) string {
	t.Helper()
	k := clientcmdapi.NewConfig()
	k.Clusters["test"] = &clientcmdapi.Cluster{Server: c.Config.Host, CertificateAuthorityData: c.Config.CAData}
	k.AuthInfos["test"] = &clientcmdapi.AuthInfo{
		ClientCertificateData: c.Config.CertData, ClientKeyData: c.Config.KeyData, Impersonate: user,
	}
	if user != "" {
		k.AuthInfos["test"].ImpersonateGroups = []string{"system:serviceaccounts", "system:authenticated"}
	}
	k.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	k.CurrentContext = "test"
	if err := clientcmd.WriteToFile(*k, file); err != nil {
		t.Fatal(err)
	}
	return file
}

func (c *cluster) create(t *testing.T, o client.Object) {
	t.Helper()
	if err := c.admin.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// node makes a node with a profile.
func (c *cluster) node(t *testing.T, name string, verified bool, images ...v1alpha1.NodeImage) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	c.create(t, n)
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	n.Status = corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
	}
	if err := c.admin.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	// Admission gave it the taint of a node that is not ready, which no controller takes away here.
	n.Spec.Taints = nil
	if err := c.admin.Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	c.create(t, &v1alpha1.NodeProfile{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: v1alpha1.NodeProfileStatus{
			Arch:           "amd64",
			RestoreMethods: []v1alpha1.RestoreMethod{{Name: v1alpha1.RestoreMethodImage, Verified: verified}},
			Images:         images,
		},
	})
}

// profile writes what the node's self-test found.
func (c *cluster) profile(t *testing.T, name string, verified bool) {
	t.Helper()
	var p v1alpha1.NodeProfile
	if err := c.admin.Get(t.Context(), client.ObjectKey{Name: name}, &p); err != nil {
		t.Fatal(err)
	}
	p.Status.RestoreMethods[0].Verified = verified
	if err := c.admin.Update(t.Context(), &p); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) checkpoint(t *testing.T, name string) {
	t.Helper()
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       v1alpha1.PodCheckpointSpec{PodName: "counter", PodUID: "source", NodeName: "gone", Reason: v1alpha1.ReasonEviction},
	}
	c.create(t, pc)
	pc.Status = v1alpha1.PodCheckpointStatus{
		Phase:        v1alpha1.PhaseClaimed,
		Requirements: &v1alpha1.Requirements{Arch: "amd64"},
		Containers:   []v1alpha1.ContainerCheckpoint{{Name: "app", BaseImage: appImage, BaseImageDigest: appDigest}},
	}
	if err := c.admin.Status().Update(t.Context(), pc); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) pod(t *testing.T, name, image string, annotations map[string]string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: annotations},
		Spec: corev1.PodSpec{
			SchedulerName: v1alpha1.SchedulerName,
			Containers:    []corev1.Container{{Name: "app", Image: image}},
		},
	}
	c.create(t, pod)
	return pod
}

func (c *cluster) awaitNode(t *testing.T, pod *corev1.Pod, node string) {
	t.Helper()
	c.await(t, "node "+node, func(ctx context.Context) (string, bool, error) {
		err := c.admin.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		return pod.Spec.NodeName, pod.Spec.NodeName == node, err
	})
}

func (c *cluster) awaitMessage(t *testing.T, pod *corev1.Pod, prefix string) {
	t.Helper()
	c.await(t, prefix, func(ctx context.Context) (string, bool, error) {
		err := c.admin.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled {
				return condition.Message, strings.HasPrefix(condition.Message, prefix), err
			}
		}
		return "no condition PodScheduled", false, err
	})
}

// await polls until got is what is wanted.
func (c *cluster) await(t *testing.T, want string, poll func(context.Context) (got string, ok bool, err error)) {
	t.Helper()
	var got string
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (ok bool, err error) {
		got, ok, err = poll(ctx)
		return ok, err
	})
	if err != nil {
		t.Fatalf("waiting for %s: %v; got %q", want, err, got)
	}
}

func (c *cluster) metrics(t *testing.T) string {
	t.Helper()
	config := rest.CopyConfig(c.Config)
	// The scheduler signs its certificate itself.
	config.CAData, config.Insecure = nil, true
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/metrics", c.port), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := h.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("getting /metrics: %s: %s", response.Status, body)
	}
	return string(body)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
