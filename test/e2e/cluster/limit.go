// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Every kubelet, containerd and API server watches files, and all of them count for the one user root. The kernel's
// usual limit of 128 lasts for two small clusters; beyond it programs fail with "too many open files".
const (
	watchLimit  = "/proc/sys/fs/inotify/max_user_instances"
	fileWatches = 1024
)

// raiseWatches raises the host's limit of file watchers where it is low. It stays raised: lowering it could hurt others
// who have come to use it.
func raiseWatches() error {
	data, err := os.ReadFile(watchLimit)
	if err != nil {
		return fmt.Errorf("reading the limit of file watchers: %w", err)
	}
	limit, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("reading the limit of file watchers: %w", err)
	}
	if limit >= fileWatches {
		return nil
	}
	if err := os.WriteFile(watchLimit, []byte(strconv.Itoa(fileWatches)), 0o644); err != nil {
		return fmt.Errorf("raising the limit of file watchers: %w", err)
	}
	return nil
}
