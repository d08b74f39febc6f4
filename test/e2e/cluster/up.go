// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
	"github.com/cryopod/cryopod/test/e2e/image"
)

const (
	// upTimeout bounds the start of a cluster, without the building of its programs.
	upTimeout = 4 * time.Minute
	// healthTimeout bounds the check whether a running cluster is well. It is long, as a cluster on a busy machine must not be
	// taken for a broken one.
	healthTimeout = 30 * time.Second
)

// Up starts a cluster and returns when pods can run on all nodes, or attaches to a healthy one of equal options. What an
// unhealthy or different cluster of that name left is removed first. The cluster outlives the caller. When Up fails,
// nothing keeps running, but the logs stay until the next Up or Down.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := toolchain.Preflight(); err != nil {
		return nil, err
	}
	l, err := newLayout(o.Name)
	if err != nil {
		return nil, err
	}
	release, err := l.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if c, err := open(o.Name, l); err == nil && c.state.matches(o) && c.healthy(ctx) == nil {
		return c, nil
	}
	if err := errors.Join(l.stop(ctx), l.removeFiles()); err != nil {
		return nil, fmt.Errorf("removing what is left of cluster %q: %w", o.Name, err)
	}
	c, err := (&starter{options: o, layout: l, began: time.Now()}).start(ctx)
	if err != nil {
		// The caller's context may be what ended the start.
		return nil, errors.Join(fmt.Errorf("starting cluster %q: %w", o.Name, err), l.stop(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// healthy says what is wrong with a cluster that should be running.
func (c *Cluster) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	m, err := c.controlPlane()
	if err != nil {
		return err
	}
	if !m.Alive() {
		return ErrNotRunning
	}
	client, err := c.clientset()
	if err != nil {
		return err
	}
	for _, n := range c.Nodes() {
		if !n.Running() {
			return fmt.Errorf("node %q: %w", n.Name(), ErrNotRunning)
		}
		if err := waitNodeReady(ctx, client, n.Name(), time.Time{}); err != nil {
			return err
		}
	}
	return waitRegistry(ctx, c.RegistryHostAddress())
}

// starter holds what the phases of a start hand on.
type starter struct {
	options Options
	layout  layout
	began   time.Time

	set      *toolchain.Set
	pause    v1.Image
	cluster  *Cluster
	client   kubernetes.Interface
	machines []*machine.Machine
}

func (s *starter) start(ctx context.Context) (*Cluster, error) {
	if err := s.phase("programs", func() error { return s.ensurePrograms(ctx) }); err != nil {
		return nil, err
	}
	if err := raiseWatches(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	for _, p := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"machines", s.startMachines},
		{"control plane", s.awaitControlPlane},
		{"nodes", s.awaitNodes},
		{"services", s.awaitServices},
	} {
		if err := s.phase(p.name, func() error { return watched(ctx, s.machines, p.run) }); err != nil {
			return nil, err
		}
	}
	s.cluster.state.Started = time.Now()
	if err := s.cluster.state.write(s.layout.state()); err != nil {
		return nil, err
	}
	s.say("cluster %s is up after %s", s.options.Name, seconds(s.began))
	return s.cluster, nil
}

func (s *starter) say(format string, args ...any) {
	fmt.Fprintf(s.options.Progress, format+"\n", args...)
}

// phase runs a part of the start and says how long it took.
func (s *starter) phase(name string, run func() error) error {
	began := time.Now()
	if err := run(); err != nil {
		return fmt.Errorf("%s, after %s: %w", name, seconds(began), err)
	}
	s.say("%-14s ready in %s", name, seconds(began))
	return nil
}

func seconds(since time.Time) string { return fmt.Sprintf("%.1fs", time.Since(since).Seconds()) }

// ensurePrograms builds or finds everything that the cluster runs.
func (s *starter) ensurePrograms(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		var err error
		s.set, err = toolchain.Ensure(ctx, toolchain.Options{ContainerdVersion: s.options.ContainerdVersion, Progress: s.options.Progress})
		return err
	})
	group.Go(func() error { return buildHelper(ctx, s.layout.bin()) })
	group.Go(func() error {
		var err error
		s.pause, err = image.Build(ctx, image.Pause)
		return err
	})
	return group.Wait()
}

// startMachines starts the control plane, the ways to it from the host, and the nodes.
func (s *starter) startMachines(ctx context.Context) error {
	var listen net.ListenConfig
	api, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("opening a port for the API server: %w", err)
	}
	defer api.Close()
	registry, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("opening a port for the registry: %w", err)
	}
	defer registry.Close()
	s.cluster = &Cluster{name: s.options.Name, layout: s.layout, state: &state{
		Nodes: s.options.Nodes, ContainerdVersion: s.options.ContainerdVersion, Set: *s.set,
		FeatureGates: s.options.FeatureGates, RuntimeConfig: s.options.RuntimeConfig,
		APIHostAddress: api.Addr().String(), RegistryHostAddress: registry.Addr().String(),
	}}
	if err := writeSecrets(s.layout, s.options, s.cluster.state.APIHostAddress); err != nil {
		return err
	}
	if err := makeShared(s.layout.shared()); err != nil {
		return err
	}
	helper := filepath.Join(s.layout.bin(), helperName)
	owner, err := machine.Start(helper, controlPlane(s.layout, s.options, s.set), nil)
	if err != nil {
		return err
	}
	s.machines = append(s.machines, owner)
	if err := s.startForwarder(ctx, helper, owner, api, registry); err != nil {
		return err
	}
	for i := 1; i <= s.options.Nodes; i++ {
		spec, err := worker(s.layout, s.options, s.set, i)
		if err != nil {
			return err
		}
		m, err := machine.Start(helper, spec, owner)
		if err != nil {
			return err
		}
		s.machines = append(s.machines, m)
	}
	s.client, err = s.cluster.clientset()
	return err
}

// makeShared creates a directory in which pods of any user may write.
func makeShared(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("creating the shared directory: %w", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return fmt.Errorf("opening the shared directory to all: %w", err)
	}
	return nil
}

// startForwarder starts the process that serves the host's ports, which it inherits: none is ever closed in between.
func (s *starter) startForwarder(ctx context.Context, helper string, owner *machine.Machine, api, registry net.Listener) error {
	out, err := createLog(filepath.Join(s.layout.logs(), "forward.log"))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), helper, "forward", owner.NetNS(), apiAddress, registryAddress)
	cmd.Env = []string{machine.GroupEnv(s.layout.dir)}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	for _, l := range []net.Listener{api, registry} {
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			return fmt.Errorf("handing over a port: %w", err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if err := os.MkdirAll(s.layout.processes(), 0o755); err != nil {
		return fmt.Errorf("creating the folder of process records: %w", err)
	}
	if _, err := machine.Spawn(cmd, filepath.Join(s.layout.processes(), "forward.json")); err != nil {
		return fmt.Errorf("starting the forwarder: %w", err)
	}
	return nil
}

func (s *starter) awaitControlPlane(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := waitRegistry(ctx, s.cluster.RegistryHostAddress()); err != nil {
			return s.withLog(err, registryComponent)
		}
		return image.Push(ctx, s.pause, s.cluster.RegistryHostAddress()+"/"+pauseRepository)
	})
	group.Go(func() error {
		if err := waitAPI(ctx, s.client); err != nil {
			return s.withLog(err, apiServerComponent)
		}
		return bootstrap(ctx, s.client)
	})
	return group.Wait()
}

// withLog adds the end of the log of a component of the control plane to an error.
func (s *starter) withLog(err error, component string) error {
	return fmt.Errorf("%w; the end of the log of %s:\n%s", err, component, s.cluster.ControlPlaneLogTail(component, logLines))
}

func (s *starter) awaitNodes(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range s.cluster.Nodes() {
		group.Go(func() error {
			if err := waitNodeReady(ctx, s.client, n.Name(), time.Time{}); err != nil {
				return fmt.Errorf("%w; the end of the kubelet's log:\n%s", err, n.LogTail("kubelet", logLines))
			}
			return nil
		})
	}
	return group.Wait()
}
