// SPDX-License-Identifier: Apache-2.0

// Package kubectl runs the real kubectl against a cluster.
package kubectl

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Tool is a kubectl and the cluster that it speaks to.
type Tool struct {
	// Path is the binary, Kubeconfig the file that it is given.
	Path, Kubeconfig string
}

func (t Tool) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, t.Path, append([]string{"--kubeconfig", t.Kubeconfig}, args...)...)
}

// Run runs kubectl and returns what it printed on both streams, which an error repeats.
func (t Tool) Run(ctx context.Context, args ...string) (string, error) {
	out, err := t.command(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("running kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Drain says what to drain.
type Drain struct {
	Node string
	// Selector is a label selector of the pods to evict; empty for all.
	Selector string
	// Timeout is after how long kubectl gives up.
	Timeout time.Duration
	// DisableEviction has kubectl delete the pods rather than evict them.
	DisableEviction bool
	// Verbosity is that of kubectl's own log, which comes with the output: from 6 on it has a line for each answer.
	Verbosity int
	// Output gets kubectl's lines as they come; nil for none.
	Output io.Writer
}

// Drained is what a drain did.
type Drained struct {
	// Requested is when kubectl said that it evicts the first pod, which it says right before the request. Zero when it evicted none.
	Requested time.Time
	// Ended is when it ended.
	Ended time.Time
	// Output is what it printed.
	Output string
}

// args are kubectl's own for a drain: what an administrator types.
func (d Drain) args() []string {
	args := []string{"drain", d.Node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=" + d.Timeout.String()}
	if d.Selector != "" {
		args = append(args, "--pod-selector="+d.Selector)
	}
	if d.DisableEviction {
		args = append(args, "--disable-eviction")
	}
	if d.Verbosity > 0 {
		args = append(args, "-v="+strconv.Itoa(d.Verbosity))
	}
	return args
}

// String is the command line.
func (d Drain) String() string {
	return "kubectl " + strings.Join(d.args(), " ")
}

// Drain runs `kubectl drain`, which leaves the node cordoned.
func (t Tool) Drain(ctx context.Context, d Drain) (Drained, error) {
	var drained Drained
	cmd := t.command(ctx, d.args()...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return drained, fmt.Errorf("running %s: %w", d, err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		_ = w.Close()
	}()
	var output strings.Builder
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if drained.Requested.IsZero() && strings.HasPrefix(lines.Text(), "evicting pod ") {
			drained.Requested = time.Now()
		}
		fmt.Fprintln(&output, lines.Text())
		if d.Output != nil {
			fmt.Fprintln(d.Output, lines.Text())
		}
	}
	drained.Ended = time.Now()
	drained.Output = output.String()
	if err := <-ended; err != nil {
		return drained, fmt.Errorf("running %s: %w: %s", d, err, strings.TrimSpace(drained.Output))
	}
	return drained, nil
}

// Uncordon lets pods onto the node again.
func (t Tool) Uncordon(ctx context.Context, node string) error {
	_, err := t.Run(ctx, "uncordon", node)
	return err
}

// Cordon keeps new pods off the node.
func (t Tool) Cordon(ctx context.Context, node string) error {
	_, err := t.Run(ctx, "cordon", node)
	return err
}

// Taint puts a taint on the node ("key=value:Effect"), over one of the same key and effect, or takes those of a key off it ("key-").
func (t Tool) Taint(ctx context.Context, node, taint string) error {
	_, err := t.Run(ctx, "taint", "node", node, taint, "--overwrite")
	return err
}
