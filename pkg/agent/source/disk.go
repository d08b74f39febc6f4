// SPDX-License-Identifier: Apache-2.0

package source

import "fmt"

const (
	// copies is how many times the memory of a pod is on the node's disk at the height of its dump: CRIU's files, containerd's content, what
	// it unpacks, and the kubelet's archive.
	copies = 4
	// leastDisk is what any dump is taken to need, in bytes.
	leastDisk = 64 << 20
	// floor is the part of the file system, in percent, that dumps leave free: the kubelet evicts pods below 10 %, and others write too.
	floor = 12
)

// Disk bounds the disk that dumps take. The zero value bounds nothing.
type Disk struct {
	// Space tells how large the file system of the kubelet's archives is and what of it is free, in bytes; ok is false when it can't be read.
	// nil: never known.
	Space func() (total, free int64, ok bool)
	// Bytes is how much all dumps under way may take together; 0: Percent of the file system instead, and without that no bound.
	Bytes   int64
	Percent int
}

// space is what dumps may take: limit at any time, free besides what is reserved. ok is false where there is no bound.
func (d Disk) space() (limit, free int64, ok bool) {
	var total int64
	if d.Space != nil {
		total, free, ok = d.Space()
	}
	if !ok {
		return d.Bytes, d.Bytes, d.Bytes > 0
	}
	limit = total - total/100*floor
	switch {
	case d.Bytes > 0:
		limit = min(limit, d.Bytes)
	case d.Percent > 0:
		limit = min(limit, total/100*int64(d.Percent))
	}
	return limit, max(free-total/100*floor, 0), true
}

// diskFor is what the dump of that much memory takes.
func diskFor(bytes int64) int64 { return max(copies*bytes, leastDisk) }

// fits says whether a dump fits beside those that have reserved so much. why is set where it never will, unless the disk changes.
func (d Disk) fits(need, reserved int64) (ok bool, why error) {
	limit, free, bound := d.space()
	switch {
	case !bound:
		return true, nil
	case need > limit:
		return false, &refusedError{cause: refusedDisk, text: fmt.Sprintf(
			"its dump needs about %s of disk, and all dumps of the node together may take %s; raise the agent's --disk-budget or the node's disk",
			mebibytes(need), mebibytes(limit))}
	case need > free && reserved == 0:
		return false, &refusedError{cause: refusedDisk, text: fmt.Sprintf(
			"its dump needs about %s of disk, and only %s are free above the %d %% that stay free for the kubelet", mebibytes(need), mebibytes(free), floor)}
	default:
		return need <= limit-reserved && need <= free-reserved, nil
	}
}

// room is how much memory may be dumped at once; 0 where there is no bound.
func (d Disk) room(reserved int64) int64 {
	limit, free, bound := d.space()
	if !bound {
		return 0
	}
	return max(min(limit, max(free, reserved))/copies, 1)
}
