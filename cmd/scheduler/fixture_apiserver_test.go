// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/imageindex"
	"github.com/cryopod/cryopod/test/apiserver"
)

const (
	namespace = "cryopod-system"
	appImage  = "registry.test/app:1"
)

// digestOf is a well-formed digest of one hexadecimal digit.
func digestOf(hex string) string { return "sha256:" + strings.Repeat(hex, 64) }

var appDigest = digestOf("a")

// cluster is a real API server and fake nodes.
type cluster struct {
	*apiserver.Server
	admin client.Client
	dir   string
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{Server: apiserver.Start(t), dir: t.TempDir()}
	var err error
	if c.admin, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	c.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	return c
}

func (c *cluster) kubectl(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"--kubeconfig", c.kubeconfig(t, "")}, args...)
	if out, err := exec.CommandContext(t.Context(), c.Kubectl, args...).CombinedOutput(); err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// kubeconfig writes the administrator's, who acts as the user unless that is empty.
func (c *cluster) kubeconfig(t *testing.T, user string) string {
	t.Helper()
	k := clientcmdapi.NewConfig()
	k.Clusters["test"] = &clientcmdapi.Cluster{Server: c.Config.Host, CertificateAuthorityData: c.Config.CAData}
	k.AuthInfos["test"] = &clientcmdapi.AuthInfo{
		ClientCertificateData: c.Config.CertData, ClientKeyData: c.Config.KeyData, Impersonate: user,
	}
	if user != "" {
		k.AuthInfos["test"].ImpersonateGroups = []string{"system:authenticated"}
	}
	if strings.HasPrefix(user, "system:serviceaccount:") {
		k.AuthInfos["test"].ImpersonateGroups = append(k.AuthInfos["test"].ImpersonateGroups, "system:serviceaccounts")
	}
	k.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	k.CurrentContext = "test"
	file := filepath.Join(c.dir, "kubeconfig-"+strings.ReplaceAll(user, ":", "-"))
	if err := clientcmd.WriteToFile(*k, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// shipped is the configuration that the pods of the applied Deployment would have.
func (c *cluster) shipped(t *testing.T) string {
	t.Helper()
	var deployment appsv1.Deployment
	key := client.ObjectKey{Namespace: namespace, Name: "cryopod-scheduler"}
	if err := c.admin.Get(t.Context(), key, &deployment); err != nil {
		t.Fatal(err)
	}
	var config corev1.ConfigMap
	key.Name = deployment.Spec.Template.Spec.Volumes[0].ConfigMap.Name
	if err := c.admin.Get(t.Context(), key, &config); err != nil {
		t.Fatal(err)
	}
	return config.Data["config.yaml"]
}

// process is a scheduler that runs.
type process struct {
	name    string
	cluster *cluster
	command *exec.Cmd
	port    int
	log     strings.Builder
	stopped bool
}

// run starts the command with the configuration, as the ServiceAccount of the manifests; it ends before the API server does.
func (c *cluster) run(t *testing.T, config string) *process {
	t.Helper()
	kubeconfig := c.kubeconfig(t, "system:serviceaccount:"+namespace+":cryopod-scheduler")
	file := filepath.Join(c.dir, "config.yaml")
	config += fmt.Sprintf("clientConnection:\n  kubeconfig: %s\n", kubeconfig)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := c.spawn(t, "Cryopod's scheduler", kubeconfig, os.Args[0], "--config="+file, "-v=2")
	t.Cleanup(func() {
		if strings.Contains(s.log.String(), "forbidden") {
			t.Error("the manifests' RBAC lacks something that the scheduler asked for")
		}
	})
	return s
}

// runPlain starts the cluster's own kube-scheduler.
func (c *cluster) runPlain(t *testing.T, args ...string) *process {
	t.Helper()
	kubeconfig := c.kubeconfig(t, "system:kube-scheduler")
	program := filepath.Join(filepath.Dir(c.Kubectl), "kube-scheduler")
	return c.spawn(t, "kube-scheduler", kubeconfig, program, append(args, "--kubeconfig="+kubeconfig)...)
}

func (c *cluster) spawn(t *testing.T, name, kubeconfig, program string, args ...string) *process {
	t.Helper()
	s := &process{name: name, cluster: c, port: apiserver.FreePort(t)}
	s.command = exec.Command(program, append(args, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", s.port),
		"--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig)...)
	s.command.Env = append(os.Environ(), runMain+"=1")
	s.command.Stdout, s.command.Stderr = &s.log, &s.log
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	// Cleanups run last first: whoever reads the log registers later than this, and stops the process itself.
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("the log of %s:\n%s", name, s.log.String())
		}
	})
	return s
}

// stop has the process end, as the kubelet does.
func (s *process) stop() {
	if s.stopped {
		return
	}
	s.stopped = true
	_ = s.command.Process.Signal(syscall.SIGTERM)
	_ = s.command.Wait()
}

func (c *cluster) create(t *testing.T, o client.Object) {
	t.Helper()
	if err := c.admin.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// room is that of every node.
var room = corev1.ResourceList{
	corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
}

// node makes a node with a profile.
func (c *cluster) node(t *testing.T, name string, verified bool, images ...imageindex.Image) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	c.create(t, n)
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
			ImageIndex:     imageindex.Pack(images),
		},
	})
}

// verify writes that the node's self-test succeeded.
func (c *cluster) verify(t *testing.T, name string) {
	t.Helper()
	var p v1alpha1.NodeProfile
	if err := c.admin.Get(t.Context(), client.ObjectKey{Name: name}, &p); err != nil {
		t.Fatal(err)
	}
	p.Status.RestoreMethods[0].Verified = true
	if err := c.admin.Update(t.Context(), &p); err != nil {
		t.Fatal(err)
	}
}

// pod makes one for the scheduler of that name, with the changes.
func (c *cluster) pod(t *testing.T, name, scheduler string, annotations map[string]string, changes ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: annotations},
		Spec: corev1.PodSpec{
			SchedulerName: scheduler,
			Containers:    []corev1.Container{{Name: "app", Image: appImage}},
		},
	}
	for _, change := range changes {
		change(pod)
	}
	c.create(t, pod)
	return pod
}

// restoringPod makes a checkpoint, and the pod that starts from it.
func (c *cluster) restoringPod(t *testing.T) *corev1.Pod {
	t.Helper()
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "counter-1"},
		Spec:       v1alpha1.PodCheckpointSpec{PodName: "counter", PodUID: "source", NodeName: "gone", Reason: v1alpha1.ReasonEviction},
	}
	c.create(t, pc)
	pc.Status = v1alpha1.PodCheckpointStatus{
		Phase:        v1alpha1.PhaseClaimed,
		Requirements: &v1alpha1.Requirements{Arch: "amd64"},
		Containers: []v1alpha1.ContainerCheckpoint{
			{Name: "app", BaseImage: appImage, BaseImageDigest: "registry.test/app@" + appDigest},
		},
	}
	if err := c.admin.Status().Update(t.Context(), pc); err != nil {
		t.Fatal(err)
	}
	return c.pod(t, "restoring", v1alpha1.SchedulerName, map[string]string{
		v1alpha1.AnnotationEnabled:     "true",
		v1alpha1.AnnotationRestoreFrom: "counter-1",
		v1alpha1.AnnotationBaseImages:  `{"app":"` + appImage + `"}`,
	}, func(p *corev1.Pod) { p.Spec.Containers[0].Image = "registry.test/checkpoints/default:counter" })
}

// awaitNode waits until the pod has the node; any, if that is empty.
func (c *cluster) awaitNode(t *testing.T, pod *corev1.Pod, node string) {
	t.Helper()
	apiserver.Await(t, "node "+node, func(ctx context.Context) (string, bool, error) {
		err := c.admin.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		return pod.Spec.NodeName, pod.Spec.NodeName != "" && (node == "" || pod.Spec.NodeName == node), err
	})
}

func (c *cluster) awaitMessage(t *testing.T, pod *corev1.Pod, prefix string) {
	t.Helper()
	apiserver.Await(t, prefix, func(ctx context.Context) (string, bool, error) {
		err := c.admin.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		message := unplaced(pod)
		return message, strings.HasPrefix(message, prefix), err
	})
}

// unplaced is what the scheduler said of a pod that it found no node for; empty if it said nothing.
func unplaced(pod *corev1.Pod) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
			return condition.Message
		}
	}
	return ""
}

// get asks the scheduler's own port.
func (s *process) get(ctx context.Context, path string) (status int, body string, err error) {
	config := rest.CopyConfig(s.cluster.Config)
	// The scheduler signs its certificate itself.
	config.CAData, config.Insecure = nil, true
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		return 0, "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d%s", s.port, path), nil)
	if err != nil {
		return 0, "", err
	}
	response, err := h.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, string(data), err
}

// awaitReady waits until the scheduler stands for the Lease, or holds it.
func (s *process) awaitReady(t *testing.T) {
	t.Helper()
	apiserver.Await(t, s.name+" to be ready", func(ctx context.Context) (string, bool, error) {
		status, body, err := s.get(ctx, "/readyz")
		if err != nil {
			return err.Error(), false, nil
		}
		return body, status == http.StatusOK, nil
	})
}

func (s *process) metrics(t *testing.T) string {
	t.Helper()
	status, body, err := s.get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if status != http.StatusOK {
		t.Fatalf("getting /metrics: status %d: %s", status, body)
	}
	return body
}
