// SPDX-License-Identifier: Apache-2.0

// Package debian makes root file systems from Debian packages and installs packages on this machine. The mirror is
// whichever one apt itself is configured with.
package debian

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// tailLines is how much of a failed command's output an error quotes.
const tailLines = 15

// environment is what commands that install packages run with: quiet, in no language, with a path that finds /usr/sbin.
func environment() []string {
	return append(os.Environ(),
		"DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

// command prepares a command whose failure is told by the end of its output.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Isolated prepares a command in mount and process namespaces of its own, so that nothing which it mounts or starts is
// left when it ends or this process dies.
func Isolated(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := command(ctx, name, args...)
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	return cmd
}

// Run runs cmd and returns what it wrote, both streams together. An error ends with the last lines of that.
func Run(cmd *exec.Cmd) ([]byte, error) {
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return output.Bytes(), fmt.Errorf("running %q: %w\n%s", cmd.Args[0], err, Tail(output.String()))
	}
	return output.Bytes(), nil
}

// Tail returns the last lines of a command's output, for an error message.
func Tail(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
