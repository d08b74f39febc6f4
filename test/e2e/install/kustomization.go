// SPDX-License-Identifier: Apache-2.0

package install

import "strings"

// overlaid is a kustomization.yaml, as far as it is needed here.
type overlaid struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Resources  []string   `json:"resources"`
	Images     []newImage `json:"images"`
	Patches    []patch    `json:"patches"`
}

type newImage struct {
	Name    string `json:"name"`
	NewName string `json:"newName"`
	NewTag  string `json:"newTag"`
}

type patch struct {
	Target target `json:"target"`
	Patch  string `json:"patch"`
}

type target struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// kustomization replaces the placeholders of the images and tells the agents where to push.
func kustomization(base string, names map[string]string, registry string) overlaid {
	k := overlaid{
		APIVersion: "kustomize.config.k8s.io/v1beta1",
		Kind:       "Kustomization",
		Resources:  []string{base},
		Patches: []patch{{
			Target: target{Kind: "DaemonSet", Name: "cryopod-agent"},
			Patch:  `[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--registry=` + registry + `"}]`,
		}},
	}
	for _, component := range components {
		colon := strings.LastIndexByte(names[component], ':')
		k.Images = append(k.Images, newImage{
			Name:    "cryopod.io/" + component,
			NewName: names[component][:colon],
			NewTag:  names[component][colon+1:],
		})
	}
	return k
}
