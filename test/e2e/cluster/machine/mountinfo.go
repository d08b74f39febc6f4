// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mountLine is a line of proc_pid_mountinfo(5), as far as it is of use here.
type mountLine struct {
	root         string
	target       string
	fsType       string
	source       string
	superOptions string
}

// mountLines reads the text of a mountinfo file.
func mountLines(text []byte) iter.Seq[mountLine] {
	return func(yield func(mountLine) bool) {
		for line := range strings.Lines(string(text)) {
			before, after, ok := strings.Cut(line, " - ")
			left, right := strings.Fields(before), strings.Fields(after)
			if !ok || len(left) < 5 || len(right) < 3 {
				continue
			}
			m := mountLine{root: unescape(left[3]), target: unescape(left[4]), fsType: right[0], source: right[1], superOptions: right[2]}
			if !yield(m) {
				return
			}
		}
	}
}

// unescape undoes the octal escapes of blanks in a mountinfo path.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// GroupMounts lists the mounts that still use the cluster's directory, in whichever mount namespace they are.
func GroupMounts(group string) ([]string, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var found []string
	seen := map[string]bool{}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		ns, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns/mnt"))
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "mountinfo"))
		if err != nil {
			continue
		}
		for m := range mountLines(text) {
			if within(m.target, group) || strings.Contains(m.superOptions, "upperdir="+group+"/") {
				found = append(found, fmt.Sprintf("%s on %s (%s)", m.source, m.target, ns))
			}
		}
	}
	return found, nil
}

// within tells whether path is dir or lies below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
