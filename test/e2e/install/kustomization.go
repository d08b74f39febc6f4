// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// overlaid is a kustomization.yaml, as far as it is needed here.
type overlaid struct {
	APIVersion         string      `json:"apiVersion"`
	Kind               string      `json:"kind"`
	Resources          []string    `json:"resources"`
	Images             []newImage  `json:"images"`
	ConfigMapGenerator []generator `json:"configMapGenerator"`
}

type newImage struct {
	Name    string `json:"name"`
	NewName string `json:"newName"`
	Digest  string `json:"digest"`
}

type generator struct {
	Name      string   `json:"name"`
	Namespace string   `json:"namespace"`
	Behavior  string   `json:"behavior"`
	Literals  []string `json:"literals"`
}

// kustomization names the images by their digests, so that a changed one restarts its pods and an unchanged one does not, and tells
// the agents where to push.
func kustomization(base, registry string, digests map[string]string) overlaid {
	k := overlaid{
		APIVersion: "kustomize.config.k8s.io/v1beta1",
		Kind:       "Kustomization",
		Resources:  []string{base},
		ConfigMapGenerator: []generator{{
			Name: "cryopod-agent", Namespace: Namespace, Behavior: "merge",
			Literals: []string{"registry=" + path.Join(registry, checkpoints)},
		}},
	}
	for _, component := range slices.Sorted(maps.Keys(digests)) {
		k.Images = append(k.Images, newImage{
			Name:    "cryopod.io/" + component,
			NewName: path.Join(registry, project, component),
			Digest:  digests[component],
		})
	}
	return k
}

// parseDigests reads what hack/images prints: a line HOST/project/COMPONENT@DIGEST for each image.
func parseDigests(lines string) (map[string]string, error) {
	digests := map[string]string{}
	for line := range strings.Lines(lines) {
		name, digest, ok := strings.Cut(strings.TrimSpace(line), "@")
		if !ok {
			return nil, fmt.Errorf("parsing image %q: want a name by digest", line)
		}
		digests[path.Base(name)] = digest
	}
	return digests, nil
}
