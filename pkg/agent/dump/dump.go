// SPDX-License-Identifier: Apache-2.0

// Package dump has the kubelet checkpoint a frozen container and finds out why when it fails.
package dump

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/archive"
)

// defaultTimeout is how long the kubelet may take when the caller's context sets no bound.
const defaultTimeout = 2 * time.Minute

// Kubelet makes checkpoint archives.
type Kubelet interface {
	// Checkpoint returns the path of the archive on the node.
	Checkpoint(ctx context.Context, namespace, pod, container string, timeout time.Duration) (string, error)
}

// Dumper makes archives through the kubelet.
type Dumper struct {
	// Kubelet makes the archive.
	Kubelet Kubelet
	// StateDir is containerd's state directory, where a failed dump leaves CRIU's log; empty: the log is not read.
	StateDir string
	// Rate learns from each dump; nil: nobody does.
	Rate Rate
}

// Rate measures how fast archives come about.
type Rate interface {
	// Enter counts a dump that begins. leave has to be called at its end with the bytes of its archive, or 0 when it failed.
	Enter() (leave func(bytes int64))
}

// Dump returns the path of a container's archive. The error begins with «criu: » where CRIU's log or the kubelet tells why CRIU
// gave up.
func (d *Dumper) Dump(ctx context.Context, namespace, pod string, c fence.Container) (string, error) {
	timeout := defaultTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	leave := func(int64) {}
	if d.Rate != nil {
		leave = d.Rate.Enter()
	}
	path, err := d.Kubelet.Checkpoint(ctx, namespace, pod, c.Name, timeout)
	if err != nil {
		leave(0)
		return "", Explain(err, d.StateDir, c.ID)
	}
	leave(size(path))
	return path, nil
}

// size is how large the archive is; 0 where it can't be seen, which is not for the dump to complain of.
func size(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// Explain returns in few words why a container's dump failed: what CRIU's log says, else what the runtime says, else the error itself.
// Whatever it says may be shown to those who may see the pod.
func Explain(err error, stateDir, containerID string) error {
	text := err.Error()
	var answer interface{ Answer() string }
	if errors.As(err, &answer) && answer.Answer() != "" {
		text = answer.Answer()
	}
	if why := criuSays(stateDir, containerID); why != "" && strings.Contains(text, "criu") {
		return fmt.Errorf("criu: %s", why)
	}
	if why := Plain(text); why != "" {
		return errors.New(why)
	}
	return err
}

// criuSays returns the telling line of the log that containerd keeps of a failed dump (containerd
// cmd/containerd-shim-runc-v2/process/init.go).
func criuSays(stateDir, containerID string) string {
	if stateDir == "" || containerID == "" {
		return ""
	}
	dir, err := os.OpenRoot(stateDir)
	if err != nil {
		return ""
	}
	defer func() { _ = dir.Close() }()
	path := filepath.Join(containerd.Bundle(containerID), "criu-dump.log")
	// A pipe would keep the reader waiting.
	f, err := dir.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	return archive.Failure(f)
}

var (
	// rpcWrapping is what gRPC puts around an error's text.
	rpcWrapping = regexp.MustCompile(`rpc error: code = \w+ desc = `)
	// criuWrapping is what runc, the shim and containerd put around CRIU's failure.
	criuWrapping = regexp.MustCompile(`(?:runc did not terminate successfully: exit status \d+: )?(criu failed: .*?)(?:: unknown)? path= ?\S+`)
	// missing and tooOld are how containerd says that CRIU is not fit.
	missing = regexp.MustCompile(`criu binary not found[^:)]*`)
	tooOld  = regexp.MustCompile(`checkpoint/restore requires at least CRIU (\d+), current version is (\d+)`)
)

// Plain says in few words what the long error of the kubelet and the runtime tells. It returns "" for an error that it does not
// know.
func Plain(text string) string {
	text = rpcWrapping.ReplaceAllString(text, "")
	if missing.MatchString(text) {
		return "criu: not installed on the node where containerd looks for it; install CRIU 4.2 or newer and restart containerd"
	}
	if m := tooOld.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("criu: version %.12s on the node is too old, containerd wants %.12s; install CRIU 4.2 or newer and restart containerd",
			m[2], m[1])
	}
	if strings.Contains(text, "criu support is disabled by configuration") {
		return "criu: turned off in containerd's configuration (enable_criu)"
	}
	if m := criuWrapping.FindStringSubmatch(text); m != nil {
		return "criu: " + archive.Presentable(strings.TrimPrefix(m[1], "criu failed: "))
	}
	return ""
}
