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
	"time"
)

// SourceDate is the date of whatever is built here, so that it does not differ with the day.
var SourceDate = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// tailLines is how much of a failed command's output an error quotes.
const tailLines = 15

// kept names the variables of this process that installing may need. All others stay outside: what is built must not
// depend on who builds it.
var kept = []string{"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "TMPDIR"}

// Environment is what commands that install packages run with: quiet, in no language, with a path that finds /usr/sbin.
func Environment() []string {
	env := []string{
		"DEBIAN_FRONTEND=noninteractive", "HOME=/root", "LC_ALL=C",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		// Tools that write dates or compile byte code take this one instead of now.
		fmt.Sprintf("SOURCE_DATE_EPOCH=%d", SourceDate.Unix()),
	}
	for _, name := range kept {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// command prepares a command whose failure is told by the end of its output.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = Environment()
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
