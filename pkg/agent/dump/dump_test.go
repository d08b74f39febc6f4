// SPDX-License-Identifier: Apache-2.0

package dump_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cryopod/cryopod/pkg/agent/dump"
	"github.com/cryopod/cryopod/pkg/agent/fence"
)

type kubelet struct {
	path    string
	err     error
	timeout time.Duration
}

func (k *kubelet) Checkpoint(_ context.Context, _, _, _ string, timeout time.Duration) (string, error) {
	k.timeout = timeout
	return k.path, k.err
}

const (
	runcFailure = `kubelet answered 500: checkpointing of ns/web/app failed (rpc error: code = Unknown desc = checkpointing container "abc" failed: runc did not terminate ` +
		`successfully: exit status 1: criu failed: type NOTIFY errno 0 path= /run/containerd/io.containerd.runtime.v2.task/k8s.io/abc/criu-dump.log)`
	criuLog = "(00.012) Error (criu/sk-inet.c:191): inet: Unsupported proto 262\n(00.013) Error (criu/cr-dump.c:2113): Dumping FAILED.\n"
)

func TestDump(t *testing.T) {
	tests := map[string]struct {
		failure error
		log     string
		want    string
	}{
		"done":                       {},
		"criu's log tells why":       {errors.New(runcFailure), criuLog, "criu: inet: Unsupported proto 262"},
		"no log":                     {errors.New(runcFailure), "", "criu: type NOTIFY errno 0"},
		"an old log, another reason": {errors.New("kubelet answered 404: pod does not exist"), criuLog, "kubelet answered 404: pod does not exist"},
		"no criu": {errors.New(`kubelet answered 500: x (rpc error: code = Unknown desc = failed to checkpoint container "abc": criu binary not found in shim path or system PATH)`), "",
			"criu: not installed on the node where containerd looks for it; install CRIU 4.2 or newer and restart containerd"},
		"an old criu": {errors.New(`checkpoint/restore requires at least CRIU 31600, current version is 31100`), "",
			"criu: version 31100 on the node is too old, containerd wants 31600; install CRIU 4.2 or newer and restart containerd"},
		"criu turned off": {errors.New(`failed to checkpoint container "a": criu support is disabled by configuration`), "",
			"criu: turned off in containerd's configuration (enable_criu)"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			state := t.TempDir()
			if tc.log != "" {
				bundle := filepath.Join(state, "io.containerd.runtime.v2.task", "k8s.io", "abc")
				if err := errors.Join(os.MkdirAll(bundle, 0o755), os.WriteFile(filepath.Join(bundle, "criu-dump.log"), []byte(tc.log), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			d := &dump.Dumper{Kubelet: &kubelet{path: "/x.tar", err: tc.failure}, StateDir: state}
			path, err := d.Dump(t.Context(), "ns", "web", fence.Container{Name: "app", ID: "abc"})
			if tc.want == "" {
				if err != nil || path != "/x.tar" {
					t.Errorf("Dump = %q, %v; want the archive", path, err)
				}
				return
			}
			if err == nil || err.Error() != tc.want {
				t.Errorf("Dump = %v, want %q", err, tc.want)
			}
		})
	}
}

func TestDumpHandsOnWhatTimeIsLeft(t *testing.T) {
	k := &kubelet{path: "/x.tar"}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := (&dump.Dumper{Kubelet: k}).Dump(ctx, "ns", "web", fence.Container{Name: "app"}); err != nil {
		t.Fatal(err)
	}
	if k.timeout <= 0 || k.timeout > 30*time.Second {
		t.Errorf("timeout %s, want what is left of 30s", k.timeout)
	}
}

// rate keeps what dumps it was told of.
type rate struct{ bytes []int64 }

func (r *rate) Enter() func(int64) { return func(bytes int64) { r.bytes = append(r.bytes, bytes) } }

func TestDumpTellsItsSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(path, make([]byte, 1234), 0o600); err != nil {
		t.Fatal(err)
	}
	r, k := &rate{}, &kubelet{path: path}
	d := &dump.Dumper{Kubelet: k, Rate: r}
	for _, k.err = range []error{nil, errors.New("no")} {
		if _, err := d.Dump(t.Context(), "ns", "web", fence.Container{Name: "app"}); !errors.Is(err, k.err) {
			t.Errorf("Dump = %v, want %v", err, k.err)
		}
	}
	if len(r.bytes) != 2 || r.bytes[0] != 1234 || r.bytes[1] != 0 {
		t.Errorf("told of %v, want 1234 and 0", r.bytes)
	}
}
