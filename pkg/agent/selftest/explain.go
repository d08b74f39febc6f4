// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/cryopod/cryopod/pkg/agent/dump"
)

var (
	rpc      = regexp.MustCompile(`rpc error: code = \w+ desc = `)
	leading  = regexp.MustCompile(`^(\d+)\.(\d+)`)
	turnedOn = "set enable_experimental_restore_via_create = true under [plugins.'io.containerd.cri.v1.runtime'] in its configuration and restart it"
)

// explainDump says why the node can't checkpoint.
func explainDump(err error) string {
	if plain := dump.Plain(err.Error()); plain != "" {
		return plain
	}
	text := rpc.ReplaceAllString(err.Error(), "")
	if strings.Contains(text, "CheckpointContainer not implemented") || strings.Contains(err.Error(), "code = Unimplemented") {
		return "the container runtime can't checkpoint containers; containerd 2.0 or newer can"
	}
	return text
}

// explainRestore says why the node can't restore. The version tells apart what the runtime's own words do not: a containerd that can't
// restore takes a checkpoint for an ordinary image and fails to find its program in it.
func explainRestore(err error, version string) string {
	text := rpc.ReplaceAllString(err.Error(), "")
	if strings.Contains(text, "restore via CreateContainer is disabled") {
		return "containerd has restoring from images turned off: " + turnedOn
	}
	major, minor, ok := parse(version)
	switch {
	case ok && (major > 2 || major == 2 && minor >= 4):
		return fmt.Sprintf("containerd %s can't restore from a checkpoint image: 2.4 removed it, 2.1 to 2.3 have it (%s)", version, text)
	case ok && (major < 2 || major == 2 && minor < 1):
		return fmt.Sprintf("containerd %s can't restore from a checkpoint image: 2.1 to 2.3 can (%s)", version, text)
	}
	if plain := dump.Plain(text); plain != "" {
		return plain
	}
	return text
}

func parse(version string) (major, minor int, ok bool) {
	m := leading.FindStringSubmatch(version)
	if m == nil {
		return 0, 0, false
	}
	major, errMajor := strconv.Atoi(m[1])
	minor, errMinor := strconv.Atoi(m[2])
	return major, minor, errMajor == nil && errMinor == nil
}
