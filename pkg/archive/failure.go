// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bufio"
	"bytes"
	"io"
	"regexp"
	"strings"
)

const (
	// maxFailure bounds what Failure returns, in bytes: it goes into events and conditions.
	maxFailure = 300
	// maxLogBytes bounds what Failure reads.
	maxLogBytes = 64 << 20
)

// criuError matches an error line of CRIU's log: "(00.012345) Error (criu/sk-inet.c:191): inet: Unsupported proto 262".
var criuError = regexp.MustCompile(`^(?:\(\d+\.\d+\)\s*)?(?:\d+:\s*)?Error \([^)]*\):\s*(.+)$`)

// consequences are error lines that only say that something failed, never why; and one that CRIU goes on after, where it may not
// raise its own limit of open files.
var consequences = []string{"Dumping FAILED", "Restoring FAILED", "Unlock network failed", "rlimit: Can't setup RLIMIT_NOFILE for self"}

// Failure returns the line of a CRIU log (dump.log, restore.log) that tells why CRIU gave up: the message of the first error that
// is not a mere consequence, as Presentable has it. It returns "" where there is none, and never fails: a log that can't be read tells
// nothing.
func Failure(log io.Reader) string {
	var consequence string
	lines := bufio.NewReaderSize(io.LimitReader(log, maxLogBytes), 64<<10)
	for {
		line, cut, err := lines.ReadLine()
		if err != nil {
			return consequence
		}
		if message := failureIn(line); message != "" {
			if !isConsequence(message) {
				return message
			}
			if consequence == "" {
				consequence = message
			}
		}
		for cut && err == nil {
			_, cut, err = lines.ReadLine()
		}
	}
}

// failureIn is the message of an error line; empty for any other line.
func failureIn(line []byte) string {
	if !bytes.Contains(line, []byte("Error (")) {
		return ""
	}
	match := criuError.FindSubmatch(line[:min(len(line), maxMessage)])
	if match == nil {
		return ""
	}
	return Presentable(string(match[1]))
}

func isConsequence(message string) bool {
	for _, c := range consequences {
		if strings.HasPrefix(message, c) {
			return true
		}
	}
	return false
}
