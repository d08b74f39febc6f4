// SPDX-License-Identifier: Apache-2.0

// Package bed is what the end-to-end tests, the demo and the benchmark run on: a local cluster with Cryopod from this checkout, the
// recorder, and the images of the workloads.
package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
	"github.com/cryopod/cryopod/test/e2e/image"
	"github.com/cryopod/cryopod/test/e2e/install"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/object"
	"github.com/cryopod/cryopod/test/e2e/recorder"
)

const (
	stepPort  = 7070
	queryPort = 7071
	// modulePath begins the import paths of the programs that are built.
	modulePath = "github.com/cryopod/cryopod/"
)

// Bed is a cluster that is ready to move pods.
type Bed struct {
	Cluster *cluster.Cluster
	Kubectl kubectl.Tool
	// Client knows Cryopod's types and those of Kubernetes.
	Client   client.WithWatch
	Recorder recorder.Client
	Images   object.Images

	process *cluster.Process
	stop    func()
}

// Options say what is wanted.
type Options struct {
	// Cluster is the cluster's name. One of that name that runs is used as it is, but with Cryopod brought up to date.
	Cluster string
	// Nodes is how many worker nodes it has; 0 for the cluster's default.
	Nodes int
	// FeatureGates and RuntimeConfig are the cluster's.
	FeatureGates, RuntimeConfig map[string]bool
	// Reserved are the nodes to keep by Reserve, before anything of Cryopod comes to them.
	Reserved []string
	// Debian is whether the images made of Debian packages are wanted: all but the Go workload's.
	Debian bool
	// Progress gets readable lines; nil for silence.
	Progress io.Writer
}

// Up brings everything up.
func Up(ctx context.Context, o Options) (*Bed, error) {
	c, err := cluster.Up(ctx, cluster.Options{
		Name: o.Cluster, Nodes: o.Nodes, FeatureGates: o.FeatureGates, RuntimeConfig: o.RuntimeConfig, Progress: o.Progress,
	})
	if err != nil {
		return nil, err
	}
	b := &Bed{Cluster: c, Kubectl: kubectl.Tool{Path: c.Kubectl(), Kubeconfig: c.Kubeconfig()}}
	if b.Client, err = newClient(c); err != nil {
		return nil, err
	}
	for _, n := range c.Nodes() {
		// An aborted run may have left it cordoned.
		if err := b.Kubectl.Uncordon(ctx, n.Name()); err != nil {
			return nil, err
		}
	}
	for _, node := range o.Reserved {
		if err := b.Reserve(ctx, node); err != nil {
			return nil, err
		}
	}
	// What workloads need is made while Cryopod starts.
	group, together := errgroup.WithContext(ctx)
	group.Go(func() error { return b.install(together, o) })
	group.Go(func() error { return b.pushImages(together, o) })
	group.Go(func() error { return b.startRecorder(together) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Bed) install(ctx context.Context, o Options) error {
	err := install.Installer{Cluster: b.Cluster, Client: b.Client, Progress: o.Progress}.Install(ctx)
	if err == nil {
		return nil
	}
	if o.Progress != nil {
		b.Diagnose(ctx, o.Progress, install.Namespace)
	}
	return fmt.Errorf("installing Cryopod: %w", err)
}

func newClient(c *cluster.Cluster) (client.WithWatch, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering Kubernetes' types: %w", err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering Cryopod's types: %w", err)
	}
	api, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making a client of cluster %q: %w", c.Name(), err)
	}
	return api, nil
}

func (b *Bed) pushImages(ctx context.Context, o Options) error {
	stepper, err := install.PushBinary(ctx, b.Cluster, modulePath+"test/e2e/workload/stepper", "stepper", o.Progress)
	if err != nil {
		return err
	}
	b.Images.Stepper = stepper
	if !o.Debian {
		return nil
	}
	names := map[string]*string{
		image.Python: &b.Images.Python, image.NodeJS: &b.Images.NodeJS, image.Java: &b.Images.Java,
		image.Redis: &b.Images.Redis, image.Nginx: &b.Images.Nginx,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for name, ref := range names {
		group.Go(func() error {
			built, err := image.Builder{Progress: o.Progress}.Build(ctx, name)
			if err != nil {
				return err
			}
			*ref, err = install.Push(ctx, b.Cluster, built, name)
			return err
		})
	}
	return group.Wait()
}

// startRecorder replaces a recorder of a former run. Its log begins anew: workloads may bear the names of former ones.
func (b *Bed) startRecorder(ctx context.Context) error {
	dir := filepath.Dir(b.Cluster.Kubeconfig())
	program := filepath.Join(dir, "recorder")
	root, err := source.Root()
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, source.Go(), "build", "-o", program, modulePath+"test/e2e/recorder/cmd/recorder")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the recorder: %w: %s", err, out)
	}
	log := filepath.Join(dir, "recorder.jsonl")
	if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the log of a former recorder: %w", err)
	}
	argv := []string{program, "-listen=:" + strconv.Itoa(stepPort), "-query=:" + strconv.Itoa(queryPort), "-log=" + log}
	for _, n := range b.Cluster.Nodes() {
		argv = append(argv, "-place="+n.PodCIDR()+"="+n.Name())
	}
	if b.process, err = b.Cluster.StartProcess(ctx, "recorder", argv, nil); err != nil {
		return err
	}
	if err := b.waitRecorder(ctx); err != nil {
		return err
	}
	address, stop, err := b.Cluster.Forward(context.WithoutCancel(ctx), "127.0.0.1:"+strconv.Itoa(queryPort))
	if err != nil {
		return err
	}
	b.stop = stop
	b.Recorder = recorder.Client{Address: address}
	return nil
}

// waitRecorder returns once the recorder has said that it listens.
func (b *Bed) waitRecorder(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return Until(ctx, func(context.Context) error {
		tail := b.process.LogTail(5)
		if !strings.Contains(tail, fmt.Sprintf("recorder %d:", b.process.PID())) {
			return fmt.Errorf("waiting for the recorder: it wrote: %s", tail)
		}
		return nil
	})
}

// Maker makes objects of a namespace, whose workloads speak to the recorder by its address.
func (b *Bed) Maker(namespace string) object.Maker {
	return object.Maker{
		Namespace: namespace,
		Recorder:  fmt.Sprintf("%s:%d", b.Cluster.ControlPlaneIP(), stepPort),
		Images:    b.Images,
	}
}

// Close lets go of the cluster, which goes on running, and so does the recorder.
func (b *Bed) Close() {
	b.stop()
}

// RecorderService is a Service in m's namespace that leads to the recorder, and its host and port.
func (b *Bed) RecorderService(m object.Maker) (*corev1.Service, *discoveryv1.EndpointSlice, string) {
	return m.OutsideService("recorder", b.Cluster.ControlPlaneIP(), stepPort)
}
