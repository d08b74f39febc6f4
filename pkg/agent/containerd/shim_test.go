// SPDX-License-Identifier: Apache-2.0

package containerd_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	shimtask "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
)

// shim runs one task, or none.
type shim struct {
	shimtask.TTRPCTaskService
	status task.Status // unknown: it has no such task
	// bundle has to be there when runc is called.
	bundle string
	calls  []string
}

func (s *shim) State(_ context.Context, r *shimtask.StateRequest) (*shimtask.StateResponse, error) {
	if s.status == task.Status_UNKNOWN {
		return nil, errgrpc.ToGRPC(fmt.Errorf("task %q: %w", r.ID, errdefs.ErrNotFound))
	}
	return &shimtask.StateResponse{ID: r.ID, Status: s.status}, nil
}

func (s *shim) runc(call string) error {
	if _, err := os.Stat(s.bundle); err != nil {
		return fmt.Errorf("runc did not terminate successfully: %w", err)
	}
	s.calls = append(s.calls, call)
	return nil
}

func (s *shim) Kill(_ context.Context, r *shimtask.KillRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, s.runc(fmt.Sprintf("kill %d, all: %t", r.Signal, r.All))
}

func (s *shim) Wait(context.Context, *shimtask.WaitRequest) (*shimtask.WaitResponse, error) {
	s.calls = append(s.calls, "wait")
	return &shimtask.WaitResponse{}, nil
}

func (s *shim) Delete(context.Context, *shimtask.DeleteRequest) (*shimtask.DeleteResponse, error) {
	return &shimtask.DeleteResponse{}, s.runc("delete")
}

// serve makes a containerd's state directory whose shim of the pod "pod" is this one, and returns the client and the task's bundle.
func serve(t *testing.T, s *shim, bootstrap string) (*containerd.Client, string) {
	t.Helper()
	dir := t.TempDir()
	tasks := filepath.Join(dir, "io.containerd.runtime.v2.task", containerd.Namespace)
	if err := os.MkdirAll(filepath.Join(tasks, "pod"), 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	shimtask.RegisterTTRPCTaskService(server, s)
	go func() { _ = server.Serve(context.Background(), listener) }()
	t.Cleanup(func() { _ = server.Close() })
	if bootstrap != "" {
		if err := os.WriteFile(filepath.Join(tasks, "pod", "bootstrap.json"), []byte(fmt.Sprintf(bootstrap, socket)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := containerd.New(filepath.Join(dir, "containerd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s.bundle = filepath.Join(tasks, "stray")
	return c, s.bundle
}

func TestKillInShim(t *testing.T) {
	const good = `{"version":3,"address":"unix://%s","protocol":"ttrpc"}`
	all := []string{"kill 9, all: true", "wait", "delete"}
	for name, tc := range map[string]struct {
		status    task.Status
		bootstrap string
		calls     []string
		killed    bool
		over      bool
		fails     bool
	}{
		"it runs":                   {status: task.Status_RUNNING, bootstrap: good, calls: all, killed: true, over: true},
		"it is frozen":              {status: task.Status_PAUSED, bootstrap: good, calls: all, killed: true, over: true},
		"it has ended":              {status: task.Status_STOPPED, bootstrap: good, calls: []string{"delete"}, over: true},
		"its restore is to come":    {status: task.Status_CREATED, bootstrap: good},
		"the shim does not know it": {bootstrap: good, over: true},
		"the pod has no shim":       {over: true},
		"the shim is gone":          {status: task.Status_RUNNING, bootstrap: `{"version":3,"address":"unix://%s.gone","protocol":"ttrpc"}`, over: true},
		"the shim speaks otherwise": {status: task.Status_RUNNING, bootstrap: `{"version":4,"address":"unix://%s","protocol":"grpc"}`, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shim{status: tc.status}
			c, bundle := serve(t, s, tc.bootstrap)
			killed, over, err := c.KillInShim(t.Context(), "pod", "stray")
			if killed != tc.killed || over != tc.over || (err != nil) != tc.fails {
				t.Errorf("killed %t, over %t, error %v; want %t, %t, an error: %t", killed, over, err, tc.killed, tc.over, tc.fails)
			}
			if !slices.Equal(s.calls, tc.calls) {
				t.Errorf("calls %q, want %q", s.calls, tc.calls)
			}
			if _, err := os.Stat(bundle); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the bundle that was lent: %v, want it gone", err)
			}
		})
	}
}

func TestKillInShimLeavesABundleThatIsThere(t *testing.T) {
	s := &shim{status: task.Status_RUNNING}
	c, bundle := serve(t, s, `{"version":3,"address":"unix://%s","protocol":"ttrpc"}`)
	if err := os.Mkdir(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	if killed, _, err := c.KillInShim(t.Context(), "pod", "stray"); !killed || err != nil {
		t.Errorf("killed %t, error %v", killed, err)
	}
	if _, err := os.Stat(bundle); err != nil {
		t.Errorf("the bundle is gone: %v", err)
	}
}
