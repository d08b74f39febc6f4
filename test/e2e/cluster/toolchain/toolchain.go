// SPDX-License-Identifier: Apache-2.0

// Package toolchain builds what a local cluster runs: Kubernetes, containerd, CoreDNS and a registry from pinned Go
// modules, and the root file system of its nodes from Debian packages.
//
// Everything is built once and kept in a cache of the user (package cache); with a full cache Ensure takes well under a
// second.
package toolchain

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/progress"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
)

// DefaultContainerd is the containerd that nodes run unless told otherwise.
const DefaultContainerd = "2.3.7"

// Options say what to build. The zero value is useful.
type Options struct {
	// ContainerdVersion is one of ContainerdVersions; DefaultContainerd when empty.
	ContainerdVersion string
	// Progress gets a line when a step begins and ends, and every 15 seconds while one runs. Nil means silence.
	Progress io.Writer
	// CacheDir is where finished builds are kept; cache.Dir() when empty.
	CacheDir string
}

// Set says where everything is. All paths are absolute, and what they name is read-only and shared between clusters.
type Set struct {
	// KubernetesDir holds kube-apiserver, kube-controller-manager, kube-proxy, kube-scheduler, kubectl and kubelet.
	KubernetesDir string
	// ContainerdDir holds containerd, containerd-shim-runc-v2 and ctr.
	ContainerdDir string
	// CoreDNS is a program with the plugins that hack/tools/coredns names.
	CoreDNS string
	// Registry is the program of distribution, started as "registry serve CONFIG".
	Registry string
	// RootFS is the root file system of a node, with CRIU, runc, crun, CNI plugins and etcd.
	RootFS string
	// CRIUPreload is the library in RootFS that its criu is started with where this machine withholds
	// CAP_SYS_RESOURCE. It is empty where the machine does not.
	CRIUPreload string
}

// Ensure builds what is missing and returns where everything is. Two runs at the same time share the work: one builds a
// thing and the other one waits for it.
func Ensure(ctx context.Context, o Options) (*Set, error) {
	if err := Preflight(); err != nil {
		return nil, err
	}
	store, err := o.cache()
	if err != nil {
		return nil, err
	}
	checkout, err := source.Root()
	if err != nil {
		return nil, err
	}
	tools, err := toolsFor(o.ContainerdVersion)
	if err != nil {
		return nil, err
	}
	log := progress.New(o.Progress)
	withheld, err := lacksSysResource()
	if err != nil {
		return nil, err
	}
	if err := installCommands(ctx, log, withheld); err != nil {
		return nil, err
	}

	builder := builder{store: store, log: log, modules: filepath.Join(checkout, "hack", "tools")}
	root := nodeRoot{packages: nodePackages, preload: withheld}
	paths := make(map[string]string, len(tools))
	var rootPath string
	group, ctx := errgroup.WithContext(ctx)
	// The root file system waits for the network and the disk, Go for the processors.
	group.Go(func() (err error) {
		rootPath, err = root.ensure(ctx, store, log)
		return err
	})
	group.Go(func() error {
		for _, tool := range tools {
			path, err := builder.ensure(ctx, tool)
			if err != nil {
				return err
			}
			paths[tool.kind] = path
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return newSet(paths, rootPath, withheld), nil
}

func newSet(paths map[string]string, rootPath string, withheld bool) *Set {
	set := &Set{
		KubernetesDir: paths[kindKubernetes],
		ContainerdDir: paths[kindContainerd],
		CoreDNS:       filepath.Join(paths[kindCoreDNS], "coredns"),
		Registry:      filepath.Join(paths[kindRegistry], "registry"),
		RootFS:        rootPath,
	}
	if withheld {
		set.CRIUPreload = filepath.Join(rootPath, preloadLibrary)
	}
	return set
}

func (o Options) cache() (*cache.Cache, error) {
	dir := o.CacheDir
	if dir == "" {
		var err error
		if dir, err = cache.Dir(); err != nil {
			return nil, err
		}
	}
	return cache.Open(dir), nil
}

// ensureEntry is cache.Ensure with a line for each step that is not done already.
func ensureEntry(
	ctx context.Context, store *cache.Cache, log *progress.Log, e cache.Entry, build func(ctx context.Context, dir string) error,
) (string, error) {
	if path, ok := store.Lookup(e); ok {
		return path, nil
	}
	var path string
	err := log.Step(fmt.Sprintf("building %s %s", e.Kind, e.Version), func() (err error) {
		path, err = store.Ensure(ctx, e, build)
		return err
	})
	return path, err
}

// installCommands installs the programs that building and running a cluster calls on this machine.
func installCommands(ctx context.Context, log *progress.Log, compiler bool) error {
	missing := missingPackages(compiler)
	if len(missing) == 0 {
		return nil
	}
	return log.Step(fmt.Sprintf("installing %v on this machine", missing), func() error {
		return debian.Install(ctx, missing...)
	})
}
