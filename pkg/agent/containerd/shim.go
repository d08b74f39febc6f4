// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	shimtask "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
)

// maxBootstrap bounds what is read of a bootstrap.json, in bytes.
const maxBootstrap = 64 << 10

// Bundle is where in containerd's state directory what belongs to the task of a container or a pod sandbox is (containerd core/runtime/v2).
func Bundle(id string) string {
	return filepath.Join("io.containerd.runtime.v2.task", Namespace, filepath.Base(id))
}

// killInShim ends a task that the shim of its pod runs and that containerd itself does not know any more: containerd forgets a task whose creation
// was given up, although the shim goes on with it. Its results are KillStray's.
func (c *Client) killInShim(ctx context.Context, sandbox, id string) (killed, over bool, err error) {
	state, err := os.OpenRoot(c.stateDir)
	if err != nil {
		return false, false, fmt.Errorf("opening containerd's state directory: %w", err)
	}
	defer func() { _ = state.Close() }()
	address, err := shimAddress(state, sandbox)
	if err != nil || address == "" {
		return false, err == nil, err
	}
	ctx = namespaces.WithNamespace(ctx, Namespace)
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", address)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return false, true, nil // a dead shim runs nothing
	}
	if err != nil {
		return false, false, fmt.Errorf("connecting to the shim of pod sandbox %q: %w", sandbox, err)
	}
	rpc := ttrpc.NewClient(conn)
	defer func() { _ = rpc.Close() }()
	return endTask(ctx, shimtask.NewTTRPCTaskClient(rpc), state, id)
}

// lendBundle makes the task's bundle anew where containerd has removed it: runc writes its log there, and does nothing where it can't. The
// function that it returns takes it away again.
func lendBundle(state *os.Root, id string) (func(), error) {
	bundle := Bundle(id)
	err := state.Mkdir(bundle, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("making a bundle for runc: %w", err)
	}
	return func() { _ = state.RemoveAll(bundle) }, nil
}

// endTask kills a task by its shim, and has the shim forget it. The shim answers once a restore that is under way is done.
func endTask(ctx context.Context, shim shimtask.TTRPCTaskService, state *os.Root, id string) (killed, over bool, err error) {
	process, err := shim.State(ctx, &shimtask.StateRequest{ID: id})
	if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
		return false, true, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("reading task %q from its shim: %w", id, err)
	}
	if process.GetStatus() == task.Status_CREATED {
		return false, false, nil // its restore is to come
	}
	giveBack, err := lendBundle(state, id)
	if err != nil {
		return false, false, err
	}
	defer giveBack()
	killed = process.GetStatus() != task.Status_STOPPED
	if killed {
		_, err := shim.Kill(ctx, &shimtask.KillRequest{ID: id, Signal: uint32(unix.SIGKILL), All: true})
		if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
			return false, false, fmt.Errorf("killing task %q by its shim: %w", id, err)
		}
		if _, err := shim.Wait(ctx, &shimtask.WaitRequest{ID: id}); err != nil {
			return false, false, fmt.Errorf("waiting for the end of task %q: %w", id, errgrpc.ToNative(err))
		}
	}
	_, err = shim.Delete(ctx, &shimtask.DeleteRequest{ID: id})
	if err = errgrpc.ToNative(err); err != nil && !errdefs.IsNotFound(err) {
		return killed, false, fmt.Errorf("deleting task %q from its shim: %w", id, err)
	}
	return killed, true, nil
}

// shimAddress is the socket on which the shim of a pod's sandbox listens, empty when there is none.
func shimAddress(state *os.Root, sandbox string) (string, error) {
	path := filepath.Join(Bundle(sandbox), "bootstrap.json")
	// A pipe would keep the reader waiting.
	f, err := state.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking for the shim of pod sandbox %q: %w", sandbox, err)
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxBootstrap))
	if err != nil {
		return "", fmt.Errorf("reading %q: %w", path, err)
	}
	var bootstrap struct {
		Version           int
		Address, Protocol string
	}
	if err := json.Unmarshal(raw, &bootstrap); err != nil {
		return "", fmt.Errorf("reading %q: %w", path, err)
	}
	address, isSocket := strings.CutPrefix(bootstrap.Address, "unix://")
	if bootstrap.Version != 3 || bootstrap.Protocol != "ttrpc" || !isSocket {
		return "", fmt.Errorf("reading %q: the shim speaks %s in version %d at %q, want ttrpc in version 3 at a socket",
			path, bootstrap.Protocol, bootstrap.Version, bootstrap.Address)
	}
	return address, nil
}
