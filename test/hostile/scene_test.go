// SPDX-License-Identifier: Apache-2.0

package hostile_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-containerregistry/pkg/registry"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/cryopod/cryopod/pkg/agent/dump"
	"github.com/cryopod/cryopod/pkg/agent/export"
	"github.com/cryopod/cryopod/pkg/agent/fence"
	fencefake "github.com/cryopod/cryopod/pkg/agent/fence/fake"
	"github.com/cryopod/cryopod/pkg/agent/kubelet"
	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/archive/archivetest"
	"github.com/cryopod/cryopod/pkg/image"
)

var key = types.NamespacedName{Namespace: "ns", Name: "web-1"}

// patience is how long an attempt may take on a busy machine.
const patience = time.Minute

// scene is an agent with a kubelet, a registry and an API server, and all that it tells.
type scene struct {
	t    *testing.T
	dir  string
	api  client.WithWatch
	r    *source.Reconciler
	logs *lines
	said *lines
	woke chan struct{}

	mu  sync.Mutex
	put int
}

// lines are kept as they come, from many goroutines.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.WriteString(text + "\n")
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// Eventf implements what source.Events wants.
func (l *lines) Eventf(_, _ runtime.Object, kind, reason, action, note string, args ...any) {
	l.add(strings.Join([]string{kind, reason, action, fmt.Sprintf(note, args...)}, " "))
}

func newScene(t *testing.T, tc trial) *scene {
	t.Helper()
	s := &scene{t: t, dir: t.TempDir(), logs: &lines{}, said: &lines{}, woke: make(chan struct{}, 1)}
	ctrllog.SetLogger(funcr.New(func(prefix, args string) { s.logs.add(prefix + " " + args) }, funcr.Options{Verbosity: 10}))
	host := s.serveRegistry(tc)
	ledger, err := fence.OpenLedger(filepath.Join(t.TempDir(), "frozen.json"))
	if err != nil {
		t.Fatal(err)
	}
	freezer := &fencefake.Fence{}
	freezer.Set("id-app", fence.Running)
	s.api = s.serveAPI()
	s.r = &source.Reconciler{
		Client: s.api, Live: s.api, Fence: freezer, Ledger: ledger, Recorder: source.Events{Recorder: s.said}, Clock: clock.RealClock{}, MaxParallel: 1,
		Requirements: func() *v1alpha1.Requirements { return &v1alpha1.Requirements{Arch: "amd64"} },
		Dumper:       &dump.Dumper{Kubelet: s.serveKubelet(tc), StateDir: s.stateDir(tc.log)},
		Exporter: &export.Exporter{
			Registry: &image.Pusher{Keychain: image.DockerConfig(credentials(t, host)), Attempts: 1}, Prefix: host + "/checkpoints",
			Images: baseImage{}, Dir: s.dir, Origin: func() image.Origin { return image.Origin{Kernel: "6.16"} }, Bandwidth: &export.Bandwidth{},
		},
		Wake: func(types.NamespacedName) {
			select {
			case s.woke <- struct{}{}:
			default:
			}
		},
	}
	return s
}

func (s *scene) serveAPI() client.WithWatch {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		s.t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "web", UID: "pod-uid"},
		Spec: corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{
			Name: "app", Image: "app:1", Env: []corev1.EnvVar{{Name: "PASSWORD", Value: secret("spec")}}, Command: []string{secret("command")},
		}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", ImageID: "app@sha256:bb", ContainerID: "containerd://id-app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}},
	}
	pc := &v1alpha1.PodCheckpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, UID: "pc-uid", CreationTimestamp: metav1.Now()},
		Spec: v1alpha1.PodCheckpointSpec{
			PodName: "web", PodUID: "pod-uid", NodeName: "node-1", Reason: v1alpha1.ReasonEviction, Fence: true, FenceSeconds: 30, MaxFreezeSeconds: 3600,
		},
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(pod, pc).WithStatusSubresource(&v1alpha1.PodCheckpoint{}).Build()
}

// serveKubelet writes the trial's archive, or answers as the trial says.
func (s *scene) serveKubelet(tc trial) *kubelet.Client {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if tc.archive == nil {
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, tc.answer)
			return
		}
		path := filepath.Join(s.dir, "checkpoint-web_ns-app-2026-01-02T03:04:05Z.tar")
		if err := os.WriteFile(path, archivetest.Tar(tc.archive...), 0o600); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string][]string{"items": {path}})
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.t.Cleanup(server.Close)
	token := filepath.Join(s.t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(secret("bearer")), 0o600); err != nil {
		s.t.Fatal(err)
	}
	c, err := kubelet.New(kubelet.Options{Address: server.Listener.Addr().String(), TokenFile: token, Insecure: true})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// stateDir is containerd's, with that log of CRIU's in it.
func (s *scene) stateDir(criuLog string) string {
	dir := s.t.TempDir()
	if criuLog == "" {
		return dir
	}
	bundle := filepath.Join(dir, "io.containerd.runtime.v2.task", "k8s.io", "id-app")
	if err := errors.Join(os.MkdirAll(bundle, 0o755), os.WriteFile(filepath.Join(bundle, "criu-dump.log"), []byte(criuLog), 0o600)); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// serveRegistry is a registry in memory that wants the credentials, behind the trial's own answers.
func (s *scene) serveRegistry(tc trial) (host string) {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, ok := r.BasicAuth()
		switch {
		case tc.registry != nil && tc.registry(w, r):
		case !ok || password != secret("password"):
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
				s.mu.Lock()
				s.put++
				s.mu.Unlock()
			}
			inner.ServeHTTP(w, r)
		}
	}))
	s.t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func credentials(t *testing.T, host string) string {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"username": secret("user"), "password": secret("password")}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".dockerconfigjson"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// baseImage is an image whose configuration has a secret of its own.
type baseImage struct{}

func (baseImage) ImageConfig(context.Context, string) ([]byte, error) {
	return fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","config":{"Env":["TOKEN=%s"]},"rootfs":{"type":"layers","diff_ids":[]}}`, secret("image")), nil
}

// save has the agent work until the checkpoint is Ready or over.
func (s *scene) save() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for {
		if _, err := s.r.Reconcile(ctx, ctrl.Request{NamespacedName: key}); err != nil {
			s.logs.add(err.Error())
		}
		if phase := s.checkpoint().Status.Phase; phase == v1alpha1.PhaseReady || phase.Final() {
			return
		}
		select {
		case <-s.woke:
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			s.t.Fatalf("the checkpoint is still %s", s.checkpoint().Status.Phase)
		}
	}
}

func (s *scene) checkpoint() *v1alpha1.PodCheckpoint {
	s.t.Helper()
	pc := &v1alpha1.PodCheckpoint{}
	if err := s.api.Get(s.t.Context(), key, pc); err != nil {
		s.t.Fatal(err)
	}
	return pc
}

// told is all that people get to see.
func (s *scene) told() map[string]string {
	s.t.Helper()
	object, err := json.Marshal(s.checkpoint())
	if err != nil {
		s.t.Fatal(err)
	}
	families, err := ctrlmetrics.Registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	var metrics strings.Builder
	for _, f := range families {
		metrics.WriteString(f.String() + "\n")
	}
	if s.said.String() == "" || metrics.Len() == 0 {
		s.t.Error("no events or no metrics: the test would find nothing")
	}
	return map[string]string{"the status": string(object), "an event": s.said.String(), "the log": s.logs.String(), "a metric": metrics.String()}
}

// archives are the files that are left in the kubelet's directory.
func (s *scene) archives() []string {
	left, _ := filepath.Glob(filepath.Join(s.dir, "*"))
	return left
}

func (s *scene) manifests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put
}

func link(target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: target, Linkname: "/" + target}
}
