// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/bench/outage/service"
	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
)

// The programs, as the report names them.
const (
	webhookLeader   = "webhook_leader"
	webhookFollower = "webhook_follower"
	scheduler       = "scheduler"
	kubeScheduler   = "kube_scheduler"
	agent           = "agent"
)

// program is one that is measured.
type program struct {
	*rig.Process
	name, metrics string
	readyAfter    time.Duration
}

// crew is all of them, and what they run on.
type crew struct {
	bed      *rig.Bed
	paths    map[string]string
	programs []*program
	runtime  *rig.Process // containerd
	service  *service.Service
	routed   []*service.Endpoint
}

func newCrew(ctx context.Context, b *rig.Bed, webhook string) (*crew, error) {
	c := &crew{bed: b, paths: map[string]string{"webhook": webhook}}
	for _, name := range []string{"webhook", "scheduler", "agent"} {
		if c.paths[name] != "" {
			continue
		}
		path, err := b.Build(ctx, name)
		if err != nil {
			return nil, err
		}
		c.paths[name] = path
	}
	tools, err := toolchain.Ensure(ctx, toolchain.Options{Progress: os.Stderr})
	if err != nil {
		return nil, fmt.Errorf("getting kube-scheduler and containerd: %w", err)
	}
	c.paths[kubeScheduler] = filepath.Join(tools.KubernetesDir, "kube-scheduler")
	c.paths["containerd"] = filepath.Join(tools.ContainerdDir, "containerd")
	if c.service, err = service.New(ctx); err != nil {
		return nil, err
	}
	return c, errors.Join(c.writeConfigs(), b.Route(ctx, c.service.Port(), nil))
}

// socket is containerd's.
func (c *crew) socket() string { return filepath.Join(c.bed.Dir, "containerd.sock") }

func (c *crew) writeConfigs() error {
	dir := c.bed.Dir
	shipped, err := os.ReadFile(filepath.Join(c.bed.Checkout, "manifests", "scheduler", "config.yaml"))
	if err != nil {
		return fmt.Errorf("reading the scheduler's configuration: %w", err)
	}
	ours := fmt.Appendf(shipped, "clientConnection:\n  kubeconfig: %s\n", c.bed.Kubeconfig("scheduler"))
	plain := fmt.Sprintf("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nclientConnection:\n  kubeconfig: %s\n",
		c.bed.Kubeconfig("admin"))
	runtime := fmt.Sprintf("version = 3\nroot = %q\nstate = %q\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n",
		filepath.Join(dir, "containerd"), filepath.Join(dir, "containerd-state"), c.socket(), c.socket()+".ttrpc")
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "scheduler.yaml"), ours, 0o600),
		os.WriteFile(filepath.Join(dir, "kube-scheduler.yaml"), []byte(plain), 0o600),
		os.WriteFile(filepath.Join(dir, "containerd.toml"), []byte(runtime), 0o600),
		os.WriteFile(filepath.Join(dir, "token"), []byte("none"), 0o600),
	)
}

// start starts all programs, one after the other, each once the one before is ready.
func (c *crew) start(ctx context.Context) (err error) {
	if c.runtime, err = c.bed.Start("containerd", c.paths["containerd"], "", "--config", filepath.Join(c.bed.Dir, "containerd.toml")); err != nil {
		return err
	}
	for _, start := range []func(context.Context) error{
		func(ctx context.Context) error { return c.startWebhook(ctx, webhookLeader) },
		c.awaitLeader,
		func(ctx context.Context) error { return c.startWebhook(ctx, webhookFollower) },
		func(ctx context.Context) error {
			return c.startScheduler(ctx, scheduler, c.paths["scheduler"], "scheduler")
		},
		func(ctx context.Context) error {
			return c.startScheduler(ctx, kubeScheduler, c.paths[kubeScheduler], "admin")
		},
		c.startAgent,
	} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stop ends all programs.
func (c *crew) stop() error {
	var errs []error
	for _, p := range c.programs {
		errs = append(errs, p.Terminate())
	}
	for _, p := range c.programs {
		select {
		case <-p.Done():
		case <-time.After(time.Minute):
			p.Kill()
		}
	}
	c.programs = nil
	for _, e := range c.routed {
		c.service.Remove(e)
	}
	if c.runtime != nil {
		c.runtime.Kill()
		c.runtime = nil
	}
	return errors.Join(errs...)
}

func (c *crew) startWebhook(ctx context.Context, name string) error {
	var ports [3]int
	for i := range ports {
		port, err := rig.FreePort(ctx)
		if err != nil {
			return err
		}
		ports[i] = port
	}
	metrics, probes := fmt.Sprintf("127.0.0.1:%d", ports[1]), fmt.Sprintf("127.0.0.1:%d", ports[2])
	e := &service.Endpoint{Address: fmt.Sprintf("127.0.0.1:%d", ports[0])}
	defer c.service.Add(e)
	c.routed = append(c.routed, e)
	return c.run(ctx, name, c.paths["webhook"], "webhook", "http://"+metrics+"/metrics", "http://"+probes+"/readyz",
		fmt.Sprintf("--webhook-port=%d", ports[0]), "--metrics-address="+metrics, "--probe-address="+probes, "--log-format=text")
}

func (c *crew) startScheduler(ctx context.Context, name, path, user string) error {
	port, err := rig.FreePort(ctx)
	if err != nil {
		return err
	}
	config, kubeconfig := "scheduler.yaml", c.bed.Kubeconfig(user)
	if name == kubeScheduler {
		config = "kube-scheduler.yaml"
	}
	address := fmt.Sprintf("https://127.0.0.1:%d", port)
	return c.run(ctx, name, path, user, address+"/metrics", address+"/readyz",
		"--config="+filepath.Join(c.bed.Dir, config), "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--authorization-always-allow-paths=/healthz,/readyz,/livez,/metrics")
}

// startAgent runs the agent of one node, with a containerd that has no containers and a kubelet that is not there. It does not test itself.
func (c *crew) startAgent(ctx context.Context) error {
	var ports [2]int
	for i := range ports {
		port, err := rig.FreePort(ctx)
		if err != nil {
			return err
		}
		ports[i] = port
	}
	metrics, probes := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	return c.run(ctx, agent, c.paths["agent"], "agent", "http://"+metrics+"/metrics", "http://"+probes+"/readyz",
		"--node-name="+rig.Node, "--registry=registry.test/checkpoints", "--kubelet-address=127.0.0.1:1", "--kubelet-insecure-tls",
		"--kubelet-token="+filepath.Join(c.bed.Dir, "token"), "--containerd-socket="+c.socket(),
		"--checkpoint-dir="+c.bed.Dir, "--state-dir="+filepath.Join(c.bed.Dir, "agent-state"), "--criu-config=", "--system-bus=", "--self-test=false",
		"--metrics-address="+metrics, "--probe-address="+probes)
}

func (c *crew) run(ctx context.Context, name, path, user, metrics, ready string, args ...string) error {
	began := time.Now()
	p, err := c.bed.Start(name, path, c.bed.Kubeconfig(user), args...)
	if err != nil {
		return err
	}
	one := &program{Process: p, name: name, metrics: metrics}
	c.programs = append(c.programs, one)
	if err := p.AwaitReady(ctx, ready); err != nil {
		return err
	}
	one.readyAfter = time.Since(began)
	return nil
}

// awaitLeader waits until the webhook's first replica leads.
func (c *crew) awaitLeader(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(200 * time.Millisecond) {
		lease := &coordinationv1.Lease{}
		err := c.bed.Admin.Get(ctx, client.ObjectKey{Namespace: rig.Namespace, Name: "cryopod-webhook"}, lease)
		if err == nil && ptr.Deref(lease.Spec.HolderIdentity, "") != "" {
			return nil
		}
	}
	return errors.New("no replica of the webhook leads within a minute")
}
