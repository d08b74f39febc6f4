// SPDX-License-Identifier: Apache-2.0

package toolchain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
)

// Bits of a capability set (linux/capability.h).
const (
	capSysAdmin    = 21
	capSysResource = 24
)

// Host is what Preflight asks about a machine.
type Host struct {
	// UID is the effective user.
	UID int
	// Root gives the machine's files, /proc and /sys among them.
	Root fs.FS
	// HasCommand says whether a program can be started by its name.
	HasCommand func(name string) bool
	// LoadModule loads a kernel module.
	LoadModule func(name string) error
}

// Preflight says in one sentence for each what this machine lacks to run a local cluster; nil when nothing does. What apt
// can install is not reported: Ensure installs it.
func Preflight() error {
	return Host{
		UID:  os.Geteuid(),
		Root: os.DirFS("/"),
		HasCommand: func(name string) bool {
			if name == "go" {
				return source.Go() != ""
			}
			_, err := exec.LookPath(name)
			return err == nil
		},
		LoadModule: func(name string) error { return exec.Command("modprobe", name).Run() },
	}.Check()
}

// Check is Preflight for one machine.
func (h Host) Check() error {
	if h.UID != 0 {
		// Whatever else lacks can't be told without being root.
		return errors.New("the local cluster makes namespaces and mounts and therefore has to run as root (try sudo)")
	}
	var lacks []error
	for _, check := range []func() error{h.checkCapabilities, h.checkNamespaces, h.checkCRIU, h.checkOverlay, h.checkCgroups, h.checkCommands} {
		if err := check(); err != nil {
			lacks = append(lacks, err)
		}
	}
	return errors.Join(lacks...)
}

func (h Host) checkCapabilities() error {
	set, err := effectiveCapabilities(h.Root)
	if err != nil {
		return err
	}
	if set&(1<<capSysAdmin) == 0 {
		return errors.New("this environment withholds CAP_SYS_ADMIN (an unprivileged container, perhaps), without which nodes can't be isolated")
	}
	return nil
}

func (h Host) checkNamespaces() error {
	var missing []string
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"} {
		if !h.exists("proc/self/ns/" + name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("this kernel has no %s namespaces, of which nodes are made", strings.Join(missing, ", "))
	}
	return nil
}

func (h Host) checkCRIU() error {
	// The file exists only in kernels with that option (kernel/pid_namespace.c).
	if !h.exists("proc/sys/kernel/ns_last_pid") {
		return errors.New("this kernel is built without CONFIG_CHECKPOINT_RESTORE, so CRIU can't checkpoint anything on it")
	}
	return nil
}

func (h Host) checkOverlay() error {
	if h.hasFileSystem("overlay") {
		return nil
	}
	if err := h.LoadModule("overlay"); err != nil || !h.hasFileSystem("overlay") {
		return errors.New("this kernel has no overlay file system, on which nodes and containers stand")
	}
	return nil
}

func (h Host) checkCgroups() error {
	if !h.exists("sys/fs/cgroup/cgroup.controllers") && !h.exists("sys/fs/cgroup/memory") {
		return errors.New("no cgroups are mounted at /sys/fs/cgroup, which the kubelet needs")
	}
	return nil
}

func (h Host) checkCommands() error {
	switch {
	case !h.HasCommand("go"):
		return errors.New("there is no go command on the PATH or in /usr/local/go, with which the cluster's programs are built")
	case !h.HasCommand("apt-get"):
		return errors.New("there is no apt-get, with which this installs what it needs: the local cluster runs on Debian")
	}
	return nil
}

func (h Host) exists(name string) bool {
	_, err := fs.Stat(h.Root, name)
	return err == nil
}

func (h Host) hasFileSystem(name string) bool {
	content, err := fs.ReadFile(h.Root, "proc/filesystems")
	return err == nil && slices.Contains(strings.Fields(string(content)), name)
}

// effectiveCapabilities returns this process's effective capability set.
func effectiveCapabilities(root fs.FS) (uint64, error) {
	content, err := fs.ReadFile(root, "proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("reading own capabilities: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("reading own capabilities: %w", err)
			}
			return set, nil
		}
	}
	return 0, errors.New("reading own capabilities: /proc/self/status does not tell them")
}

// hostCommands maps the programs that this machine itself needs to the Debian packages that have them.
var hostCommands = map[string]string{
	"dbus-daemon": "dbus", // for a test of the agent
	"ip":          "iproute2",
	"mount":       "mount",
	"nsenter":     "util-linux",
	"tar":         "tar",
}

// missingPackages lists the Debian packages that this machine still needs, also those of a C compiler if one is needed.
func missingPackages(compiler bool) []string {
	var missing []string
	has := func(name string) bool {
		_, err := exec.LookPath(name)
		return err == nil
	}
	for name, pkg := range hostCommands {
		if !has(name) {
			missing = append(missing, pkg)
		}
	}
	if compiler && !has("gcc") {
		missing = append(missing, "gcc", "libc6-dev")
	}
	slices.Sort(missing)
	return missing
}
