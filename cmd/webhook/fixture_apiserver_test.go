// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/test/apiserver"
)

// runMain, in the environment, makes this test binary be the command itself.
const runMain = "CRYOPOD_TEST_RUN_WEBHOOK"

// parallel is how many tests run at a time, unless -parallel says otherwise. They wait more than they work.
const parallel = "16"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// inParallel runs tests beside each other that share a cluster, and returns when all of them have ended if it is the last thing in a test.
func inParallel(t *testing.T, tests map[string]func(*testing.T)) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// cluster is a real API server with all manifests applied, and nothing that carries them out.
type cluster struct {
	*apiserver.Server
	admin client.Client
	// adminConfig and webhookConfig are kubeconfigs of an administrator and of the webhook's ServiceAccount.
	adminConfig, webhookConfig string
}

func start(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{Server: apiserver.Start(t)}
	var err error
	if c.admin, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c.adminConfig = c.kubeconfig(t, filepath.Join(dir, "admin"), "")
	c.webhookConfig = c.kubeconfig(t, filepath.Join(dir, "webhook"), "system:serviceaccount:cryopod-system:cryopod-webhook")
	c.kubectl(t, "apply", "--server-side", "--force-conflicts", "-k", filepath.Join(c.Checkout, "manifests"))
	return c
}

func (c *cluster) kubectl(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), c.Kubectl, append([]string{"--kubeconfig", c.adminConfig}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
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

// replica is the command, running with the permissions of the manifests.
type replica struct {
	command     *exec.Cmd
	log         logBuffer
	port, probe int
	ended       chan error
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// run starts a replica; it ends before the API server does.
func (c *cluster) run(t *testing.T, args ...string) *replica {
	t.Helper()
	r := &replica{port: apiserver.FreePort(t), probe: apiserver.FreePort(t), ended: make(chan error, 1)}
	args = append(args, "--metrics-address=0", "--shutdown-delay=0s", "--log-format=text", "--log-level=debug",
		fmt.Sprintf("--webhook-port=%d", r.port), fmt.Sprintf("--probe-address=127.0.0.1:%d", r.probe))
	r.command = exec.Command(os.Args[0], args...)
	r.command.Env = append(os.Environ(), runMain+"=1", "KUBECONFIG="+c.webhookConfig)
	r.command.Stdout, r.command.Stderr = &r.log, &r.log
	if err := r.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- r.command.Wait() }()
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("the replica ended with: %v", err)
		}
		if log := r.log.String(); strings.Contains(log, "forbidden") {
			t.Errorf("the manifests' permissions do not suffice:\n%s", log)
		}
		if t.Failed() {
			t.Logf("a replica's log:\n%s", r.log.String())
		}
	})
	return r
}

// stop asks the replica to end and returns what it ended with. Once it has ended, it is asked no more.
func (r *replica) stop() error {
	if r.command == nil {
		return nil
	}
	err := r.command.Process.Signal(syscall.SIGTERM)
	if err == nil {
		err = <-r.ended
	}
	r.command = nil
	return err
}

func (r *replica) awaitReady(t *testing.T) {
	t.Helper()
	apiserver.Await(t, "ready", func(ctx context.Context) (string, bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/readyz?verbose", r.probe), nil)
		if err != nil {
			return "", false, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err.Error(), false, nil
		}
		defer response.Body.Close()
		var body bytes.Buffer
		_, err = body.ReadFrom(response.Body)
		return body.String(), response.StatusCode == http.StatusOK, err
	})
}

func (c *cluster) create(t *testing.T, o client.Object) {
	t.Helper()
	if err := c.admin.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

// checkpoint makes a pod NAME-old, not scheduled, and its PodCheckpoint in the phase. Claimed ones have the claim ID "claim-NAME".
func (c *cluster) checkpoint(t *testing.T, name string, phase v1alpha1.Phase) *v1alpha1.PodCheckpoint {
	t.Helper()
	source := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name + "-old", Labels: map[string]string{v1alpha1.LabelEnabled: "true"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	}
	c.create(t, source)
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: source.Name, PodUID: source.UID, NodeName: "node-1", Reason: v1alpha1.ReasonEviction, Fence: true,
		},
	}
	c.create(t, pc)
	pc.Status.Containers = []v1alpha1.ContainerCheckpoint{{Name: "app", BaseImage: "app:1", ImageTag: "registry.test/default:" + name + ".app"}}
	pc.Status.Owner = &v1alpha1.Owner{UID: "rs", APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "owner-of-" + name}
	pc.Status.Enter(phase, "", time.Now())
	if phase == v1alpha1.PhaseClaimed {
		pc.Status.Claim = &v1alpha1.Claim{ID: "claim-" + name, Time: metav1.NowMicro()}
	}
	if err := c.admin.Status().Update(t.Context(), pc); err != nil {
		t.Fatal(err)
	}
	return pc
}

// replacement makes the pod that claimed the checkpoint, as the webhook would have it, on a node.
func (c *cluster) replacement(t *testing.T, pc *v1alpha1.PodCheckpoint) *corev1.Pod {
	t.Helper()
	pod := inject.Restore(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pc.Namespace, Name: pc.Name + "-new", Labels: map[string]string{v1alpha1.LabelEnabled: "true"},
		},
		Spec: corev1.PodSpec{NodeName: "node-2", Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	}, pc, pc.Status.Claim.ID)
	c.create(t, pod)
	return pod
}

// report writes the state of the pod's container, as its kubelet would.
func (c *cluster) report(t *testing.T, pod *corev1.Pod, state corev1.ContainerState) {
	t.Helper()
	pod.Status.Phase = corev1.PodPending
	if state.Running != nil {
		pod.Status.Phase = corev1.PodRunning
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", Image: pod.Spec.Containers[0].Image, State: state}}
	if err := c.admin.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}
