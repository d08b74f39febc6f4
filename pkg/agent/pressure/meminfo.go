// SPDX-License-Identifier: Apache-2.0

package pressure

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Read tells the memory.available of the node that the caller runs on.
func Read() (int64, error) {
	const path = "/proc/meminfo"
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading the node's memory: %w", err)
	}
	available, err := Available(content)
	if err != nil {
		return 0, fmt.Errorf("reading %q: %w", path, err)
	}
	return available, nil
}

// Available is the kubelet's memory.available, in bytes, from a /proc/meminfo. That is the node's capacity without the working set of the
// root cgroup: its anonymous memory and page cache, less the cache that nobody touched for long. The root cgroup of either version counts
// just what /proc/meminfo counts (kernel: mem_cgroup_usage; version 2 has no count of its own, and opencontainers/cgroups adds it up
// from the same numbers). So the agent sees it from within its container, which does not see the root cgroup. It is not MemAvailable.
func Available(meminfo []byte) (int64, error) {
	const kibibyte = 1024
	signs := map[string]int64{"MemTotal": 1, "AnonPages": -1, "Cached": -1, "Buffers": -1, "SwapCached": -1, "Inactive(file)": 1}
	var sum int64
	lines := bufio.NewScanner(bytes.NewReader(meminfo))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		sign, counts := signs[name]
		if !counts {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parsing %s: %w", name, err)
		}
		sum += sign * n * kibibyte
		delete(signs, name)
	}
	delete(signs, "SwapCached") // Not there in a kernel without swap.
	for name := range signs {
		return 0, fmt.Errorf("there is no %s", name)
	}
	return sum, nil
}
