// SPDX-License-Identifier: Apache-2.0

// Package install puts Cryopod, as it stands in this checkout, on a local cluster, by the manifests that users apply.
package install

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/progress"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
	"github.com/cryopod/cryopod/test/e2e/image"
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
	digests, err := i.push(ctx)
	if err != nil {
		return err
	}
	overlay, err := i.overlay(digests)
	if err != nil {
		return err
	}
	return progress.New(i.Progress).Step("starting Cryopod", func() error { return i.apply(ctx, overlay) })
}

// push builds the components' images as users do and returns the digest of each.
func (i Installer) push(ctx context.Context) (map[string]string, error) {
	root, err := source.Root()
	if err != nil {
		return nil, err
	}
	var digests map[string]string
	err = progress.New(i.Progress).Step("building the images of Cryopod", func() error {
		cmd := exec.CommandContext(ctx, source.Go(), "run", "./hack/images", "--registry="+i.Cluster.RegistryHostAddress()+"/"+project)
		cmd.Dir = root
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("building and pushing Cryopod's images: %w: %s", err, bytes.TrimSpace(complaints.Bytes()))
		}
		digests, err = parseDigests(string(out))
		return err
	})
	return digests, err
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
func (i Installer) overlay(digests map[string]string) (string, error) {
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
	content, err := yaml.Marshal(kustomization(base, i.Cluster.RegistryName(), digests))
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
