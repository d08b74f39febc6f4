// SPDX-License-Identifier: Apache-2.0

// Package install puts Cryopod, as it stands in this checkout, on a local cluster, by the manifests that users apply.
package install

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
	"github.com/cryopod/cryopod/test/e2e/image"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
)

// Namespace is where Cryopod runs.
const Namespace = "cryopod-system"

const (
	// project is the registry's folder of Cryopod's own images, checkpoints that of what the agents push.
	project     = "cryopod"
	checkpoints = "checkpoints"
	// readyTimeout bounds the time from the manifests to a cluster that moves pods.
	readyTimeout = 3 * time.Minute
)

// components are Cryopod's programs. Each is an image of its name.
var components = []string{"webhook", "scheduler", "agent"}

// Installer installs Cryopod on Cluster.
type Installer struct {
	Cluster *cluster.Cluster
	// Client knows Cryopod's types.
	Client client.Client
	// Progress gets a line for each step; nil for silence.
	Progress io.Writer
}

// Install builds and pushes the images, applies the manifests, and returns when every node can save and restore pods. Over an
// installation that is there it is an update.
func (i Installer) Install(ctx context.Context) error {
	names, err := i.push(ctx)
	if err != nil {
		return err
	}
	overlay, err := i.overlay(names)
	if err != nil {
		return err
	}
	tool := kubectl.Tool{Path: i.Cluster.Kubectl(), Kubeconfig: i.Cluster.Kubeconfig()}
	if _, err := tool.Run(ctx, "apply", "--server-side", "--force-conflicts", "-k", overlay); err != nil {
		return fmt.Errorf("applying the manifests: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return i.waitReady(ctx)
}

// push returns the name of each component's image in the cluster.
func (i Installer) push(ctx context.Context) (map[string]string, error) {
	names := make([]string, len(components))
	group, ctx := errgroup.WithContext(ctx)
	// A build uses all processors by itself.
	group.SetLimit(1)
	for n, component := range components {
		group.Go(func() (err error) {
			names[n], err = PushBinary(ctx, i.Cluster, "./cmd/"+component, component, i.Progress)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	byComponent := map[string]string{}
	for n, component := range components {
		byComponent[component] = names[n]
	}
	return byComponent, nil
}

// PushBinary builds a Go program of this module, pushes it as an image, and returns its name in the cluster.
func PushBinary(ctx context.Context, c *cluster.Cluster, pkgPath, name string, progress io.Writer) (string, error) {
	built, err := image.Builder{Progress: progress}.GoBinary(ctx, pkgPath, name)
	if err != nil {
		return "", err
	}
	return Push(ctx, c, built, name)
}

// overlay writes a kustomization over manifests/ that says what only this cluster knows, and returns its directory.
func (i Installer) overlay(names map[string]string) (string, error) {
	root, err := source.Root()
	if err != nil {
		return "", err
	}
	// kustomize takes no absolute path for a base, and both lie in the checkout.
	dir := filepath.Join(root, "_out", "install", i.Cluster.Name())
	base, err := filepath.Rel(dir, filepath.Join(root, "manifests"))
	if err != nil {
		return "", fmt.Errorf("finding the manifests: %w", err)
	}
	content, err := yaml.Marshal(kustomization(base, names, i.Cluster.RegistryName()+"/"+checkpoints))
	if err != nil {
		return "", fmt.Errorf("encoding the overlay: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a folder for the overlay: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), content, 0o644); err != nil {
		return "", fmt.Errorf("writing the overlay: %w", err)
	}
	return dir, nil
}
