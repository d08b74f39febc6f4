// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/chaos/fault"
	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/image"
	"github.com/cryopod/cryopod/test/e2e/install"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/report"
	"github.com/cryopod/cryopod/test/e2e/trial"
)

const (
	agents = "cryopod-agent"
	// settled is how many steps a pod does before its node is drained.
	settled = 20
	// turnTimeout bounds the restart of the agents, self-tests included.
	turnTimeout = 2 * time.Minute
)

// kind is what is measured: what is the matter with the way from the registry to the target.
type kind string

const (
	// fast: nothing.
	fast kind = "fast"
	// based: nothing, and the base image is on the target.
	based kind = "base_there"
	// bounded: all connections of the target together have what its line lets through.
	bounded kind = "line_bounded"
	// meted: the registry passes so much on each connection and not more.
	meted kind = "connections_bounded"
)

// kinds are all that is measured. With the base image there, nothing is to be fetched ahead: it must not cost anything.
var kinds = []kind{fast, bounded, meted, based}

// sample has the seconds from binding to first step, with prefetch and without, and the MiB that were fetched ahead.
type sample struct {
	with, without, mebibytes []float64
}

type runner struct {
	options
	bed            *bed.Bed
	source, target *cluster.Node
}

func (r *runner) all(ctx context.Context) (map[kind]*sample, error) {
	samples := map[kind]*sample{}
	for _, k := range kinds {
		samples[k] = &sample{}
	}
	for i := range r.runs {
		// Who comes first changes: what the machine does else is on both sides.
		for _, on := range []bool{i%2 == 0, i%2 != 0} {
			if err := r.turn(ctx, on); err != nil {
				return nil, err
			}
			for _, k := range kinds {
				seconds, mebibytes, err := r.move(ctx, k)
				if err != nil {
					return nil, fmt.Errorf("measuring run %d of %s: %w", i+1, k, err)
				}
				fmt.Printf("run %d of %d, %s, prefetch %t: %.2f s, %.0f MiB ahead\n", i+1, r.runs, k, on, seconds, mebibytes)
				if s := samples[k]; on {
					s.with, s.mebibytes = append(s.with, seconds), append(s.mebibytes, mebibytes)
				} else {
					s.without = append(s.without, seconds)
				}
			}
		}
	}
	return samples, nil
}

// turn turns the agents' prefetch on or off, and returns when all of them have restarted and tested their nodes.
func (r *runner) turn(ctx context.Context, on bool) error {
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	in := []string{"-n", install.Namespace, "daemonset/" + agents}
	text, err := r.bed.Kubectl.Run(ctx, append([]string{"get", "-o", "jsonpath={.spec.template.spec.containers[0].args}"}, in...)...)
	if err != nil {
		return err
	}
	var args []string
	if err := json.Unmarshal([]byte(text), &args); err != nil {
		return fmt.Errorf("reading the agents' arguments: %w", err)
	}
	args = slices.DeleteFunc(args, func(a string) bool { return strings.HasPrefix(a, "--prefetch") || strings.HasPrefix(a, "--verbosity") })
	args = append(args, fmt.Sprintf("--prefetch=%t", on), "--verbosity=1")
	patch, err := json.Marshal([]any{map[string]any{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": args}})
	if err != nil {
		return fmt.Errorf("writing the agents' arguments: %w", err)
	}
	begun := time.Now().Truncate(time.Second)
	if out, err := r.bed.Kubectl.Run(ctx, append([]string{"patch", "--type=json", "-p", string(patch)}, in...)...); err != nil {
		return err
	} else if strings.Contains(out, "no change") {
		return nil
	}
	if _, err := r.bed.Kubectl.Run(ctx, append([]string{"rollout", "status"}, in...)...); err != nil {
		return err
	}
	return bed.Until(ctx, func(ctx context.Context) error { return r.tested(ctx, begun) })
}

// tested tells whether all agents have tested their nodes since that time.
func (r *runner) tested(ctx context.Context, since time.Time) error {
	var profiles v1alpha1.NodeProfileList
	if err := r.bed.Client.List(ctx, &profiles); err != nil {
		return fmt.Errorf("listing node profiles: %w", err)
	}
	for i := range profiles.Items {
		p := &profiles.Items[i]
		m, ok := p.Method(v1alpha1.RestoreMethodImage)
		if !ok || !m.Verified || m.Time == nil || m.Time.Time.Before(since) {
			return fmt.Errorf("node %q has not been tested again yet", p.Name)
		}
	}
	return nil
}

// move drains a pod off the source, and tells how long its replacement took from its binding to its first step, and how many MiB were fetched ahead for it.
func (r *runner) move(ctx context.Context, k kind) (seconds, mebibytes float64, err error) {
	base := r.bed.Cluster.RegistryName() + "/cryopod/prefetch-" + strings.ToLower(rand.Text()[:8]) + ":1"
	if err := image.Weigh(ctx, r.bed.OnHost(r.bed.Images.Stepper), r.bed.OnHost(base), r.base); err != nil {
		return 0, 0, err
	}
	heavy := *r.bed
	heavy.Images.Stepper = base
	if err := r.bed.Kubectl.Cordon(ctx, r.target.Name()); err != nil {
		return 0, 0, err
	}
	had, err := r.names(ctx)
	if err != nil {
		return 0, 0, err
	}
	var before float64
	var prepared error
	undo := func(context.Context) error { return nil }
	t := trial.Trial{
		Bed: &heavy, Name: "prefetch", Mebibytes: r.mebibytes, Steps: settled,
		Settled: func(*corev1.Pod, kubectl.Drain) { before, undo, prepared = r.prepare(ctx, k, base) },
	}
	moved, err := t.Run(ctx)
	if err := errors.Join(prepared, err, undo(context.WithoutCancel(ctx))); err != nil {
		return 0, 0, err
	}
	if moved.After.Spec.NodeName != r.target.Name() || moved.Verdict.Moves[0].First.Step <= 1 {
		return 0, 0, fmt.Errorf("moving a pod: it went to %s and began at step %d", moved.After.Spec.NodeName, moved.Verdict.Moves[0].First.Step)
	}
	after, err := r.fetched(ctx)
	if err != nil {
		return 0, 0, err
	}
	if err := t.Remove(ctx, moved); err != nil {
		return 0, 0, err
	}
	if err := r.restoreImages(ctx, had); err != nil {
		return 0, 0, err
	}
	return moved.Verdict.Moves[0].First.Time.Sub(moved.Observations.Replacement.Bound).Seconds(), (after - before) / (1 << 20), nil
}

// prepare makes the target, and its way to the registry, what they are to be; undo ends that. It tells how many bytes the target's agent has
// fetched ahead until now.
func (r *runner) prepare(ctx context.Context, k kind, base string) (before float64, undo fault.Undo, err error) {
	undo = func(context.Context) error { return nil }
	switch k {
	case based:
		err = r.bed.PullImage(ctx, r.target, base)
	case bounded:
		undo = func(ctx context.Context) error { return r.bed.Throttle(ctx, r.target, 0) }
		err = r.bed.Throttle(ctx, r.target, r.line)
	case meted:
		var end fault.Undo
		end, err = fault.BoundConnections(ctx, &fault.Target{Bed: r.bed, Node: r.target.Name()}, r.connection<<20)
		if end != nil {
			undo = end
		}
	case fast:
	}
	if err != nil {
		return 0, undo, err
	}
	if before, err = r.fetched(ctx); err != nil {
		return 0, undo, err
	}
	return before, undo, r.bed.Kubectl.Uncordon(ctx, r.target.Name())
}

// names are those of the images on both nodes.
func (r *runner) names(ctx context.Context) (map[*cluster.Node][]string, error) {
	all := map[*cluster.Node][]string{}
	for _, n := range []*cluster.Node{r.source, r.target} {
		out, err := n.Exec(ctx, "ctr", "-n", "k8s.io", "images", "ls", "-q")
		if err != nil {
			return nil, fmt.Errorf("listing the images of %s: %w: %s", n.Name(), err, out)
		}
		all[n] = strings.Fields(string(out))
	}
	return all, nil
}

// restoreImages removes the images that have come since, by all of their names: the next move is to find the nodes as this one did, and room on
// the disk.
func (r *runner) restoreImages(ctx context.Context, had map[*cluster.Node][]string) error {
	have, err := r.names(ctx)
	if err != nil {
		return err
	}
	for n, names := range have {
		came := slices.DeleteFunc(names, func(name string) bool { return slices.Contains(had[n], name) })
		if len(came) == 0 {
			continue
		}
		if out, err := n.Exec(ctx, append([]string{"ctr", "-n", "k8s.io", "images", "rm", "--sync"}, came...)...); err != nil {
			return fmt.Errorf("removing images of %s: %w: %s", n.Name(), err, out)
		}
	}
	return nil
}

// fetched is how many bytes the target's agent has fetched ahead.
func (r *runner) fetched(ctx context.Context) (float64, error) {
	var pods corev1.PodList
	err := r.bed.Client.List(ctx, &pods, client.InNamespace(install.Namespace), client.MatchingLabels{"app.kubernetes.io/name": agents})
	if err != nil {
		return 0, fmt.Errorf("listing the agents: %w", err)
	}
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Spec.NodeName == r.target.Name() && p.DeletionTimestamp == nil {
			return r.bed.Metric(ctx, *p, "cryopod_agent_prefetched_bytes_total", "")
		}
	}
	return 0, fmt.Errorf("finding the agent of %s: there is none", r.target.Name())
}

func compile(o options, samples map[kind]*sample) report.Report {
	compiled := report.Report{
		Name: "prefetch", Machine: report.Machine(), Runs: o.runs, Metrics: map[string]report.Metric{},
		Command: fmt.Sprintf("make bench-prefetch (%d MiB of memory upon a base image of %d MiB; line %d MiB/s, connections %d MiB/s where bounded)",
			o.mebibytes, o.base, o.line, o.connection),
	}
	for k, s := range samples {
		with := report.Metric{Value: report.Median(s.with), Unit: "s", Better: "lower", All: s.with}
		compiled.Metrics["bound_to_first_step_median_"+string(k)] = with.Against("without prefetch", report.Median(s.without))
		compiled.Metrics["bound_to_first_step_without_median_"+string(k)] = report.Metric{
			Value: report.Median(s.without), Unit: "s", Better: "lower", All: s.without,
		}
		compiled.Metrics["fetched_ahead_median_"+string(k)] = report.Metric{
			Value: report.Median(s.mebibytes), Unit: "MiB", Better: "higher", All: s.mebibytes,
		}
	}
	return compiled
}
