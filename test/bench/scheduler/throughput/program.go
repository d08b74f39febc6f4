// SPDX-License-Identifier: Apache-2.0

package throughput

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/locality"
	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/scheduler/timed"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
)

// Command is a program with what comes before a scheduler's own flags.
type Command struct {
	Path string
	Args []string
}

// Programs are the schedulers that are measured.
type Programs struct {
	// Ours is cmd/scheduler, Rival is kube-scheduler, Timed is package timed's.
	Ours, Rival, Timed Command
}

// rate is how many calls a second a scheduler may make of the API server: as many as it can, as in kube-scheduler's own benchmark. The default,
// 50, would be all that is measured.
const rate = 5000

// side is a scheduler with its configuration.
type side struct {
	name string
	// scheduler is the name that pods ask for it by.
	scheduler string
	command   Command
	// config is its configuration without what is common to both.
	config map[string]any
}

// ours is Cryopod's scheduler as shipped.
func ours(checkout string, command Command) (side, error) {
	config, err := shipped(checkout)
	return side{name: "ours", scheduler: v1alpha1.SchedulerName, command: command, config: config}, err
}

// theirs is kube-scheduler with its default profile, which has ImageLocality.
func theirs(command Command) side {
	return side{name: "kube-scheduler", scheduler: corev1.DefaultSchedulerName, command: command, config: map[string]any{
		"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
	}}
}

// stopwatch is Cryopod's scheduler as shipped, but for both plugins being timed.
func stopwatch(checkout string, command Command) (side, error) {
	config, err := shipped(checkout)
	if err != nil {
		return side{}, err
	}
	if err := replaceImageLocality(config); err != nil {
		return side{}, fmt.Errorf("changing the shipped configuration: %w", err)
	}
	return side{name: "timed", scheduler: v1alpha1.SchedulerName, command: command, config: config}, nil
}

func shipped(checkout string) (map[string]any, error) {
	file := filepath.Join(checkout, "manifests", "scheduler", "config.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the shipped configuration: %w", err)
	}
	config := map[string]any{}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("reading %q: %w", file, err)
	}
	return config, nil
}

// replaceImageLocality puts the timed ImageLocality into the place of the other, with the default weight.
func replaceImageLocality(config map[string]any) error {
	profiles, _ := config["profiles"].([]any)
	for _, one := range profiles {
		profile, _ := one.(map[string]any)
		if profile["schedulerName"] != v1alpha1.SchedulerName {
			continue
		}
		plugins, _ := profile["plugins"].(map[string]any)
		all, _ := plugins["multiPoint"].(map[string]any)
		enabled, _ := all["enabled"].([]any)
		if !named(enabled, locality.Name) {
			return fmt.Errorf("the profile %q does not enable %s at multiPoint", v1alpha1.SchedulerName, locality.Name)
		}
		disabled, _ := all["disabled"].([]any)
		all["enabled"] = append(enabled, map[string]any{"name": timed.ImageLocality, "weight": 1})
		if !named(disabled, "ImageLocality") {
			all["disabled"] = append(disabled, map[string]any{"name": "ImageLocality"})
		}
		return nil
	}
	return fmt.Errorf("there is no profile %q", v1alpha1.SchedulerName)
}

// named tells whether a list of plugins has one of that name.
func named(list []any, name string) bool {
	return slices.ContainsFunc(list, func(one any) bool {
		plugin, _ := one.(map[string]any)
		return plugin["name"] == name
	})
}

// process is a scheduler that runs.
type process struct {
	*rig.Process
	metrics string
}

// start starts the scheduler of that side. Both have the same rights, the ServiceAccount's of Cryopod's own, and no election to wait for.
func (s side) start(ctx context.Context, b *rig.Bed) (*process, error) {
	config := map[string]any{}
	for key, value := range s.config {
		config[key] = value
	}
	config["leaderElection"] = map[string]any{"leaderElect": false}
	config["clientConnection"] = map[string]any{"kubeconfig": b.Kubeconfig("scheduler"), "qps": rate, "burst": rate}
	text, err := yaml.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("encoding the configuration of %s: %w", s.name, err)
	}
	file := filepath.Join(b.Dir, s.name+".yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of %s: %w", s.name, err)
	}
	port, err := rig.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	args := append(slices.Clone(s.command.Args), "--config="+file, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--authentication-kubeconfig="+b.Kubeconfig("scheduler"), "--authorization-kubeconfig="+b.Kubeconfig("scheduler"),
		"--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics,/debug/*")
	p, err := b.Start(s.name, s.command.Path, b.Kubeconfig("scheduler"), args...)
	if err != nil {
		return nil, err
	}
	return &process{Process: p, metrics: fmt.Sprintf("https://127.0.0.1:%d/metrics", port)}, nil
}

// complete adds what is not there, as users get it: ours is built, theirs is what the tests' toolchain has built of the same release.
func (p Programs) complete(ctx context.Context, b *rig.Bed) (_ Programs, err error) {
	if p.Rival.Path == "" {
		tools, err := toolchain.Ensure(ctx, toolchain.Options{Progress: os.Stderr})
		if err != nil {
			return p, fmt.Errorf("getting kube-scheduler: %w", err)
		}
		p.Rival.Path = filepath.Join(tools.KubernetesDir, "kube-scheduler")
	}
	if p.Ours.Path == "" {
		p.Ours.Path, err = b.Build(ctx, "scheduler")
	}
	return p, err
}
