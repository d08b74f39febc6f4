// SPDX-License-Identifier: Apache-2.0

package export_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/cryopod/cryopod/pkg/agent/export"
	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/image"
)

// registry keeps what was asked of it.
type registry struct {
	request image.Request
	content string
	deleted []string
	failure error
}

func (r *registry) Push(_ context.Context, request image.Request) (image.Result, error) {
	r.request = request
	f, err := request.Archive()
	if err != nil {
		return image.Result{}, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(f)
	if err != nil {
		return image.Result{}, err
	}
	r.content = string(content)
	return image.Result{Digest: "reg/ns@sha256:1", ArchiveBytes: 7, PushedBytes: 3, Duration: time.Second}, r.failure
}

func (r *registry) Delete(_ context.Context, ref string) error {
	r.deleted = append(r.deleted, ref)
	return r.failure
}

type images struct{ raw string }

func (i images) ImageConfig(context.Context, string) ([]byte, error) { return []byte(i.raw), nil }

func exporter(t *testing.T, r *registry) (*export.Exporter, string) {
	t.Helper()
	dir := t.TempDir()
	return &export.Exporter{
		Registry: r, Prefix: "reg.local:5000/checkpoints", Dir: dir, Bandwidth: &export.Bandwidth{},
		Images: images{`{"os":"linux","architecture":"amd64","config":{"User":"1000"},"rootfs":{"type":"layers","diff_ids":[]}}`},
		Origin: func() image.Origin { return image.Origin{Kernel: "6.16"} },
	}, dir
}

func write(t *testing.T, path string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// podOf is a pod with a container "app" that has whatever the kubelet tells a runtime of one.
func podOf(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "u"},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(7)),
			Containers: []corev1.Container{{
				Name: "app", TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
				Ports:     []corev1.ContainerPort{{ContainerPort: 80}},
				Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/bye"}}}},
			}},
		},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", ImageID: "docker-pullable://docker.io/library/busybox@sha256:aa",
		}}},
	}
}

func TestExport(t *testing.T) {
	tests := map[string]struct {
		failure error
		want    v1alpha1.ContainerCheckpoint
	}{
		"pushed": {want: v1alpha1.ContainerCheckpoint{
			Name: "app", Image: "reg/ns@sha256:1", ImageTag: "reg.local:5000/checkpoints/ns:pc-1.app", Bytes: 7, PushedBytes: 3,
		}},
		"the registry is away": {failure: errors.New("connection refused")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := &registry{failure: tc.failure}
			e, dir := exporter(t, r)
			path := write(t, filepath.Join(dir, "checkpoint-web_ns-app-2026-01-02T03:04:05Z.tar"))
			got, err := e.Export(t.Context(), source.Part{
				Checkpoint: types.NamespacedName{Namespace: "ns", Name: "pc-1"}, BaseImage: "busybox", Archive: path,
				Pod:       podOf("web"),
				Container: fence.Container{Name: "app", ID: "abc"},
			})
			if !errors.Is(err, tc.failure) {
				t.Fatalf("Export = %v, want %v", err, tc.failure)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Export (-want +got):\n%s", diff)
			}
			if r.content != "archive" || r.request.Base.User != "1000" {
				t.Errorf("pushed %q with base %+v", r.content, r.request.Base)
			}
			want := image.Origin{
				Kernel: "6.16", Namespace: "ns", Pod: "web", PodUID: "u", Image: "busybox", ImageRef: "docker.io/library/busybox@sha256:aa", ContainerID: "abc",
				Annotations: map[string]string{
					"io.kubernetes.container.hash": "0", "io.kubernetes.container.restartCount": "0",
					"io.kubernetes.container.terminationMessagePath": "/dev/termination-log", "io.kubernetes.container.terminationMessagePolicy": "File",
					"io.kubernetes.container.preStopHandler": `{"exec":{"command":["/bye"]}}`,
					"io.kubernetes.container.ports":          `[{"containerPort":80}]`, "io.kubernetes.pod.terminationGracePeriod": "7",
				},
			}
			if time.Since(r.request.Origin.CheckpointedAt) > time.Minute {
				t.Errorf("checkpointed at %s", r.request.Origin.CheckpointedAt)
			}
			r.request.Origin.CheckpointedAt = time.Time{}
			if diff := cmp.Diff(want, r.request.Origin); diff != "" {
				t.Errorf("origin (-want +got):\n%s", diff)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the archive is still there: %v", err)
			}
		})
	}
}

func TestExportTouchesNothingElsewhere(t *testing.T) {
	e, dir := exporter(t, &registry{})
	for _, path := range []string{
		write(t, filepath.Join(t.TempDir(), "checkpoint-web_ns-app-2026-01-02T03:04:05Z.tar")),
		write(t, filepath.Join(dir, "config.yaml")),
	} {
		part := source.Part{Archive: path, Pod: &corev1.Pod{}}
		if _, err := e.Export(t.Context(), part); err == nil {
			t.Errorf("Export of %q succeeded", path)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q was touched: %v", path, err)
		}
	}
}

func TestClean(t *testing.T) {
	e, dir := exporter(t, &registry{})
	since := time.Date(2026, 1, 2, 3, 4, 5, 900, time.UTC)
	keep := []string{
		"checkpoint-web_ns-app-2026-01-02T03:04:04Z.tar", // before
		"checkpoint-web_ns-app-2026-01-02T03:04:08Z.tar", // after
		"checkpoint-web_ns--2026-01-02T03:04:06Z.tar",
		"checkpoint-web_ns2-app-2026-01-02T03:04:06Z.tar.1",
		"checkpoint-web_other-app-2026-01-02T03:04:06Z.tar",
		"checkpoint-web_ns-app-2026-01-02T03:04:06Z.tar.bak",
		// Of people and other tools, who keep theirs in the same directory.
		"checkpoint-web_ns-app-2026-01-02.tar",
		"checkpoint-web_ns-app-.tar",
		"checkpoint-web_ns-app-before-upgrade.tar",
		"checkpoint-web_ns-app-2026-01-02T03:04:06Z.tar.zst",
		"checkpoint-web-0_ns-app-2026-01-02T03:04:06Z.tar",
		"my-checkpoint-web_ns-app-2026-01-02T03:04:06Z.tar",
		"checkpoint.tar",
		"web.tar",
	}
	gone := []string{
		"checkpoint-web_ns-app-2026-01-02T03:04:05Z.tar", "checkpoint-web_ns-app-2026-01-02T04:04:06+01:00.tar",
		"checkpoint-web_ns-app-2-2026-01-02T03:04:07Z.tar", // of another container
	}
	for _, name := range slices.Concat(keep, gone) {
		write(t, filepath.Join(dir, name))
	}
	// What others sorted into directories is not looked into.
	sub := filepath.Join(dir, "kept")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(sub, gone[0]))
	keep = append(keep, "kept")
	if err := e.Clean(t.Context(), "ns", "web", since, since.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range left {
		names = append(names, entry.Name())
	}
	slices.Sort(keep)
	if diff := cmp.Diff(keep, names); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if inside, err := os.ReadDir(sub); err != nil || len(inside) != 1 {
		t.Errorf("the directory has %v (%v), want what it had", inside, err)
	}
}

func TestCleanWithoutDirectory(t *testing.T) {
	e, _ := exporter(t, &registry{})
	e.Dir = filepath.Join(e.Dir, "missing")
	if err := e.Clean(t.Context(), "ns", "web", time.Time{}, time.Time{}); err != nil {
		t.Errorf("Clean = %v", err)
	}
}

func TestWithdrawTriesEveryImage(t *testing.T) {
	r := &registry{failure: errors.New("away")}
	e, _ := exporter(t, r)
	if err := e.Withdraw(t.Context(), types.NamespacedName{Namespace: "ns", Name: "pc-1"}, []string{"a", "b"}); err == nil {
		t.Error("Withdraw hid the failure")
	}
	want := []string{"reg.local:5000/checkpoints/ns:pc-1.a", "reg.local:5000/checkpoints/ns:pc-1.b"}
	if diff := cmp.Diff(want, r.deleted); diff != "" {
		t.Errorf("deleted (-want +got):\n%s", diff)
	}
}

func TestBandwidth(t *testing.T) {
	changes := 0
	now := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	b := &export.Bandwidth{Changed: func() { changes++ }, Clock: now}
	steps := []struct {
		name        string
		bytes       int64
		took        time.Duration
		want        int64
		wantChanges int
	}{
		{"too small to tell", 1000, time.Second, 0, 0},
		{"it failed", 0, time.Second, 0, 0},
		{"the first", 100 << 20, time.Second, 100 << 20, 1},
		{"about the same", 110 << 20, time.Second, 100 << 20, 1},
		{"much faster", 400 << 20, time.Second, 240859360, 2},
	}
	for _, s := range steps {
		leave := b.Enter()
		now.SetTime(now.Now().Add(s.took))
		leave(s.bytes)
		if got := b.BytesPerSecond(); got != s.want || changes != s.wantChanges {
			t.Errorf("%s: %d after %d changes, want %d after %d", s.name, got, changes, s.want, s.wantChanges)
		}
	}
}

// TestBandwidthTogether has two pushes at once: each gets half of what there is.
func TestBandwidthTogether(t *testing.T) {
	now := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	b := &export.Bandwidth{Clock: now}
	one, other := b.Enter(), b.Enter()
	now.SetTime(now.Now().Add(2 * time.Second))
	one(100 << 20)
	other(100 << 20)
	if got := b.BytesPerSecond(); got != 100<<20 {
		t.Errorf("%d bytes a second, want %d", got, 100<<20)
	}
}

// TestBandwidthMeasuredElsewhere follows what it is told in steps, and weighs it by its size.
func TestBandwidthMeasuredElsewhere(t *testing.T) {
	changes := 0
	b := &export.Bandwidth{Changed: func() { changes++ }}
	for _, s := range []struct {
		bytes       int64
		took        time.Duration
		want        int64
		wantChanges int
	}{
		{100 << 20, time.Second, 100 << 20, 1},
		{100 << 20, time.Second, 100 << 20, 1},
		{8 << 20, 4 * time.Second, 35144810, 2},
		{4 << 30, 100 * time.Second, 42858707, 3},
	} {
		b.Measured(s.bytes, s.took)
		if got := b.BytesPerSecond(); got != s.want || changes != s.wantChanges {
			t.Errorf("%d bytes in %v: %d after %d changes, want %d after %d", s.bytes, s.took, got, changes, s.want, s.wantChanges)
		}
	}
	// With a memory of 100 bytes, the first 100 count for half, in bytes as in time.
	b = &export.Bandwidth{Memory: 100}
	b.Measured(100, time.Second)
	b.Measured(100, 2*time.Second)
	if got := b.BytesPerSecond(); got != 60 {
		t.Errorf("%d bytes a second, want 150 in 2.5 s", got)
	}
}
