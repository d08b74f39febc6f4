// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
)

// Add puts a component of manifests/components upon an installation by Install, and returns what takes it off again. Both return when
// everything is ready.
func (i Installer) Add(ctx context.Context, component string) (remove func(context.Context) error, err error) {
	root, err := source.Root()
	if err != nil {
		return nil, err
	}
	plain := filepath.Join(root, "_out", "install", i.Cluster.Name())
	dir := plain + "-" + component
	content, err := yaml.Marshal(map[string]any{
		"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
		"resources":  []string{"../" + filepath.Base(plain)},
		"components": []string{"../../../manifests/components/" + component},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the overlay: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making a folder for the overlay: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), content, 0o644); err != nil {
		return nil, fmt.Errorf("writing the overlay: %w", err)
	}
	return func(ctx context.Context) error { return i.apply(ctx, plain) }, i.apply(ctx, dir)
}

// apply applies an overlay and returns when Cryopod is ready.
func (i Installer) apply(ctx context.Context, overlay string) error {
	tool := kubectl.Tool{Path: i.Cluster.Kubectl(), Kubeconfig: i.Cluster.Kubeconfig()}
	if _, err := tool.Run(ctx, "apply", "--server-side", "--force-conflicts", "-k", overlay); err != nil {
		return fmt.Errorf("applying the manifests: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return i.waitReady(ctx)
}
