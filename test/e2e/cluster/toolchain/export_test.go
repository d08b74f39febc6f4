// SPDX-License-Identifier: Apache-2.0

package toolchain

import (
	"context"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
)

// Pin is what the tests see of a tool.
type Pin struct {
	Kind, Version, Module string
	Packages              []string
}

// Pins lists the tools of a cluster with one containerd.
func Pins(containerd string) ([]Pin, error) {
	tools, err := toolsFor(containerd)
	var pins []Pin
	for _, t := range tools {
		pins = append(pins, Pin{Kind: t.kind, Version: t.version, Module: t.module, Packages: t.packages})
	}
	return pins, err
}

// ToolEntry names what the module in modules/name builds to with some flags.
func ToolEntry(modules, name, ldflags string) (cache.Entry, error) {
	return builder{modules: modules}.entry(tool{kind: name, version: "v1", module: name, ldflags: ldflags})
}

// RootEntry names the root file system with some packages.
func RootEntry(preload bool, packages ...string) cache.Entry {
	return nodeRoot{packages: packages, preload: preload}.entry()
}

// CompilePreload compiles the library for criu.
func CompilePreload(ctx context.Context, library string) error {
	return compilePreload(ctx, library)
}
