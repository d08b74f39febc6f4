// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Node is what a node's kernel and CPU offer. It does not change while the node runs.
type Node struct {
	// Arch is the CPU architecture as Go names it.
	Arch string
	// CPUFeatures are the CPU's features as /proc/cpuinfo names them, sorted.
	CPUFeatures []string
	// Kernel is the kernel's release.
	Kernel string
	// CgroupVersion is 1 or 2.
	CgroupVersion int32
}

// ReadNode reads what the node offers from its own kernel.
func ReadNode() (Node, error) {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return Node{}, fmt.Errorf("reading the CPU's features: %w", err)
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Node{}, fmt.Errorf("reading the kernel's release: %w", err)
	}
	version, err := cgroupVersion("/sys/fs/cgroup")
	if err != nil {
		return Node{}, err
	}
	return Node{
		Arch: runtime.GOARCH, CPUFeatures: CPUFeatures(info), Kernel: unix.ByteSliceToString(name.Release[:]), CgroupVersion: version,
	}, nil
}

// CPUFeatures returns the features that every CPU in a /proc/cpuinfo has, sorted: processes move between them.
func CPUFeatures(info []byte) []string {
	var common map[string]bool
	lines := bufio.NewScanner(bytes.NewReader(info))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if key = strings.TrimSpace(key); key != "flags" && key != "Features" {
			continue
		}
		have := map[string]bool{}
		for _, f := range strings.Fields(value) {
			if common == nil || common[f] {
				have[f] = true
			}
		}
		common = have
	}
	features := make([]string, 0, len(common))
	for f := range common {
		features = append(features, f)
	}
	slices.Sort(features)
	return features
}

func cgroupVersion(mount string) (int32, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(mount, &fs); err != nil {
		return 0, fmt.Errorf("reading the cgroups' version at %q: %w", mount, err)
	}
	if fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return 2, nil
	}
	return 1, nil
}
