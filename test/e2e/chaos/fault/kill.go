// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// killTimeout bounds the time from a signal to the end of its process.
const killTimeout = 10 * time.Second

// process is one on a node.
type process struct {
	node *cluster.Node
	pid  int
}

func (p process) String() string { return fmt.Sprintf("%d on %s", p.pid, p.node.Name()) }

// processes are those of a name on the given nodes, in their order; nodes that do not run have none.
func processes(ctx context.Context, name string, nodes ...*cluster.Node) ([]process, error) {
	var found []process
	for _, n := range nodes {
		if !n.Running() {
			continue
		}
		// pgrep ends with 1 when it finds none.
		out, err := n.Exec(ctx, "sh", "-c", `pgrep -x "$1" || [ $? = 1 ]`, "sh", name)
		if err != nil {
			return nil, fmt.Errorf("looking for process %q: %w", name, err)
		}
		for field := range strings.FieldsSeq(string(out)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("looking for process %q: %w", name, err)
			}
			found = append(found, process{n, pid})
		}
	}
	return found, nil
}

// kill ends processes as the kernel does that is out of memory, and returns when they are gone. Those that are gone already are no error.
func kill(ctx context.Context, all []process) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	for _, p := range all {
		const script = `kill -9 "$1" 2>/dev/null; while kill -0 "$1" 2>/dev/null; do sleep 0.02; done`
		if _, err := p.node.Exec(ctx, "sh", "-c", script, "sh", strconv.Itoa(p.pid)); err != nil {
			return fmt.Errorf("killing process %s: %w", p, err)
		}
	}
	return nil
}

func killed(name string, all []process) string {
	if len(all) == 0 {
		return fmt.Sprintf("no process %q to kill", name)
	}
	var what []string
	for _, p := range all {
		what = append(what, p.String())
	}
	return fmt.Sprintf("killed %s %s", name, strings.Join(what, ", "))
}

// killAgent kills the agent of the source.
func killAgent(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	node, err := t.source()
	if err != nil {
		return nil, "", err
	}
	return killComponent(ctx, t, "agent", func(all []process) []process { return all }, node)
}

// killOne kills one replica of a component.
func killOne(name string) func(context.Context, *Target, *rand.Rand) (Undo, string, error) {
	return func(ctx context.Context, t *Target, r *rand.Rand) (Undo, string, error) {
		drawn := r.Uint64()
		return killComponent(ctx, t, name, func(all []process) []process {
			if len(all) == 0 {
				return nil
			}
			i := int(drawn % uint64(len(all)))
			return all[i : i+1]
		}, t.Bed.Cluster.Nodes()...)
	}
}

// killAll kills all replicas of a component.
func killAll(name string) func(context.Context, *Target, *rand.Rand) (Undo, string, error) {
	return func(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
		return killComponent(ctx, t, name, func(all []process) []process { return all }, t.Bed.Cluster.Nodes()...)
	}
}

// killComponent kills those of a component's processes that are chosen. The kubelet starts them again.
func killComponent(
	ctx context.Context, t *Target, name string, choose func([]process) []process, nodes ...*cluster.Node,
) (Undo, string, error) {
	all, err := processes(ctx, name, nodes...)
	if err != nil {
		return nil, "", err
	}
	all = choose(all)
	if err := kill(ctx, all); err != nil {
		return nil, "", err
	}
	return func(ctx context.Context) error { return replaceStuck(ctx, t.Bed, "cryopod-"+name) }, killed(name, all), nil
}

// components are the names of Cryopod's parts.
var components = []string{"cryopod-agent", "cryopod-webhook", "cryopod-scheduler"}

// replaceStuck replaces those pods of a component that the kubelet leaves alone for a long while. After many kills it waits for the longer
// before it starts a container again, which would make many attacks one long outage. And a container that it started while its clock was
// ahead it does not probe, so that the pod is not ready, until its clock is there again.
func replaceStuck(ctx context.Context, b *bed.Bed, component string) error {
	pods, err := b.ComponentPods(ctx, component)
	if err != nil {
		return err
	}
	var errs []error
	for i := range pods {
		if pods[i].DeletionTimestamp == nil && slices.ContainsFunc(pods[i].Status.ContainerStatuses, stuck) {
			errs = append(errs, client.IgnoreNotFound(b.Client.Delete(ctx, &pods[i])))
		}
	}
	return errors.Join(errs...)
}

func stuck(c corev1.ContainerStatus) bool {
	// Clocks of kubelet and API server are the same, but for what faults do to them.
	const ahead = 5 * time.Second
	return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" ||
		c.State.Running != nil && time.Until(c.State.Running.StartedAt.Time) > ahead
}

// killProgram kills one of the source's own programs, which its init starts again.
func killProgram(name string) func(context.Context, *Target, *rand.Rand) (Undo, string, error) {
	return func(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
		node, err := t.source()
		if err != nil {
			return nil, "", err
		}
		all, err := processes(ctx, name, node)
		if err != nil {
			return nil, "", err
		}
		if err := kill(ctx, all); err != nil {
			return nil, "", err
		}
		return nil, killed(name, all), nil
	}
}
