// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"

	"github.com/cryopod/cryopod/pkg/agent/fence"
)

var _ fence.Fence = (*Client)(nil)

// State implements fence.Fence.
func (c *Client) State(ctx context.Context, id string) (fence.State, error) {
	answer, err := c.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		if err = errgrpc.ToNative(err); errdefs.IsNotFound(err) {
			return fence.Gone, nil
		}
		return fence.Gone, fmt.Errorf("reading task %q: %w", id, err)
	}
	switch answer.GetProcess().GetStatus() {
	case task.Status_RUNNING, task.Status_PAUSING:
		return fence.Running, nil
	case task.Status_PAUSED:
		return fence.Frozen, nil
	default:
		return fence.Gone, nil
	}
}

// Freeze implements fence.Fence by containerd's Pause, that is by the cgroup's freezer.
func (c *Client) Freeze(ctx context.Context, id string) error {
	_, err := c.client.TaskService().Pause(ctx, &tasks.PauseTaskRequest{ContainerID: id})
	if err == nil {
		return nil
	}
	err = errgrpc.ToNative(err)
	state, readErr := c.State(ctx, id)
	switch {
	case readErr != nil:
	case state == fence.Frozen:
		return nil
	case state == fence.Gone:
		return fmt.Errorf("pausing task %q: %w", id, fence.ErrGone)
	}
	return fmt.Errorf("pausing task %q: %w", id, err)
}

// Thaw implements fence.Fence.
func (c *Client) Thaw(ctx context.Context, id string) error {
	_, err := c.client.TaskService().Resume(ctx, &tasks.ResumeTaskRequest{ContainerID: id})
	if err == nil {
		return nil
	}
	err = errgrpc.ToNative(err)
	if state, readErr := c.State(ctx, id); readErr == nil && state != fence.Frozen {
		return nil
	}
	return fmt.Errorf("resuming task %q: %w", id, err)
}

// KillStray implements rewind.Tasks, as containerd itself does with the task of an ordinary container whose start is given up. Depending on when that
// was, containerd still knows the task, or only the pod's shim does.
func (c *Client) KillStray(ctx context.Context, sandbox, id string) (killed, over bool, err error) {
	record, err := c.client.LoadContainer(ctx, id)
	if errdefs.IsNotFound(err) {
		return c.killInShim(ctx, sandbox, id)
	}
	if err != nil {
		return false, false, fmt.Errorf("reading container %q: %w", id, err)
	}
	stray, err := record.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return c.killInShim(ctx, sandbox, id)
	}
	if err != nil {
		return false, false, fmt.Errorf("reading task %q: %w", id, err)
	}
	status, err := stray.Status(ctx)
	if errdefs.IsNotFound(err) {
		return false, true, nil
	}
	if err != nil {
		return false, false, fmt.Errorf("reading task %q: %w", id, err)
	}
	if status.Status == client.Created {
		return false, false, nil // its restore is to come
	}
	if _, err := stray.Delete(ctx, client.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
		return false, false, fmt.Errorf("killing task %q: %w", id, err)
	}
	return status.Status != client.Stopped, true, nil
}
