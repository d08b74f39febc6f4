// SPDX-License-Identifier: Apache-2.0

package app

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cryopod/cryopod/pkg/agent/source"
)

// disk is the budget for dumps, of the file system in which the kubelet keeps its archives.
func (o *Options) disk() (source.Disk, error) {
	d := source.Disk{Space: func() (total, free int64, ok bool) { return space(o.CheckpointDir) }}
	if number, ok := strings.CutSuffix(o.DiskBudget, "%"); ok {
		percent, err := strconv.Atoi(number)
		if err != nil || percent < 1 || percent > 100 {
			return d, fmt.Errorf("must be between 1%% and 100%%, not %q", o.DiskBudget)
		}
		d.Percent = percent
		return d, nil
	}
	quantity, err := resource.ParseQuantity(o.DiskBudget)
	if err != nil || quantity.Value() < 1 {
		return d, fmt.Errorf("must be a quantity (20Gi) or a part of the file system (50%%), not %q", o.DiskBudget)
	}
	d.Bytes = quantity.Value()
	return d, nil
}

// space is the size of the file system of dir, and what of it is free for others than root.
func space(dir string) (total, free int64, ok bool) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, false
	}
	return int64(s.Blocks) * s.Bsize, int64(s.Bavail) * s.Bsize, true
}
