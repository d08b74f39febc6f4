// SPDX-License-Identifier: Apache-2.0

package toolchain

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/progress"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
)

const (
	kindKubernetes = "kubernetes"
	kindContainerd = "containerd"
	kindCoreDNS    = "coredns"
	kindRegistry   = "registry"
)

// Versions that the modules in hack/tools pin.
const (
	kubernetesVersion = "v1.37.1"
	coreDNSVersion    = "v1.15.0"
	registryVersion   = "v3.1.2"
)

// ContainerdVersions lists the containerd versions that hack/tools has a module for.
var ContainerdVersions = []string{"2.1.9", "2.3.7", "2.4.2"}

// tool is a set of programs built from one module in hack/tools.
type tool struct {
	kind    string
	version string
	// module is the folder of the module in hack/tools.
	module   string
	packages []string
	tags     string
	ldflags  string
}

// toolsFor lists the tools of a cluster. The slowest comes last, so that whoever watches sees the others done.
func toolsFor(containerd string) ([]tool, error) {
	if containerd == "" {
		containerd = DefaultContainerd
	}
	if !slices.Contains(ContainerdVersions, containerd) {
		return nil, fmt.Errorf("choosing containerd %q: it is not one of %s", containerd, strings.Join(ContainerdVersions, ", "))
	}
	const (
		containerdModule = "github.com/containerd/containerd/v2"
		registryModule   = "github.com/distribution/distribution/v3"
		kubeVersion      = "k8s.io/component-base/version"
	)
	return []tool{
		{
			kind: kindContainerd, version: "v" + containerd, module: "containerd-" + containerd,
			packages: prefixed(containerdModule+"/cmd/", "containerd", "containerd-shim-runc-v2", "ctr"),
			tags:     "no_btrfs,no_zfs,no_devmapper",
			ldflags:  "-X " + containerdModule + "/version.Version=v" + containerd,
		},
		{kind: kindCoreDNS, version: coreDNSVersion, module: "coredns", packages: []string{"."}},
		{
			kind: kindRegistry, version: registryVersion, module: "registry",
			packages: prefixed(registryModule+"/cmd/", "registry"),
			ldflags:  "-X " + registryModule + "/version.version=" + registryVersion,
		},
		{
			kind: kindKubernetes, version: kubernetesVersion, module: "kubernetes",
			packages: prefixed("k8s.io/kubernetes/cmd/", "kube-apiserver", "kube-controller-manager", "kube-proxy",
				"kube-scheduler", "kubectl", "kubelet"),
			ldflags: fmt.Sprintf("-X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=37", kubeVersion, kubernetesVersion),
		},
	}, nil
}

func prefixed(prefix string, names ...string) []string {
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = prefix + name
	}
	return paths
}

// arguments are those of the go command that builds t into dir.
func (t tool) arguments(dir string) []string {
	args := []string{"build", "-buildvcs=false", "-ldflags", strings.TrimSpace("-s -w " + t.ldflags), "-o", dir + "/"}
	if t.tags != "" {
		args = append(args, "-tags", t.tags)
	}
	return append(args, t.packages...)
}

// builder builds tools into a cache.
type builder struct {
	store *cache.Cache
	log   *progress.Log
	// modules is the folder with the tools' modules.
	modules string
}

// entry names what t builds to: another module, other flags or another Go make another entry.
func (b builder) entry(t tool) (cache.Entry, error) {
	module, err := cache.TreeKey(filepath.Join(b.modules, t.module))
	if err != nil {
		return cache.Entry{}, err
	}
	key := cache.NewKey(append(t.arguments(""), module.String(), source.GoVersion())...)
	return cache.Entry{Kind: t.kind, Version: t.version, Key: key}, nil
}

func (b builder) ensure(ctx context.Context, t tool) (string, error) {
	entry, err := b.entry(t)
	if err != nil {
		return "", err
	}
	return ensureEntry(ctx, b.store, b.log, entry, func(ctx context.Context, dir string) error {
		cmd := exec.CommandContext(ctx, source.Go(), t.arguments(dir)...)
		cmd.Dir = filepath.Join(b.modules, t.module)
		// A workspace or flags of whoever runs this must not change what is built.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		// The go command's compilers are its children, which killing it alone would leave behind.
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		if _, err := debian.Run(cmd); err != nil {
			return fmt.Errorf("building %s %s: %w", t.kind, t.version, err)
		}
		return nil
	})
}
