// SPDX-License-Identifier: Apache-2.0

package restore_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/cryopod/cryopod/pkg/checkpoint/restore"
)

// FuzzTelling: whatever the kubelet says of a container, what is told is one line of at most 300 bytes that can be printed.
func FuzzTelling(f *testing.F) {
	f.Add(`failed to create containerd task: failed to start shim: rpc error: code = Unknown desc = criu failed: type RESTORE errno 22`)
	f.Add(`failed to pull checkpoint base image registry.example/app@sha256:aa: pull access denied`)
	f.Add("\x1b[31mred\x1b[0m \u202e\x00 \xff")
	f.Add(strings.Repeat("é", 400))
	f.Add("rpc error: code = Unknown desc = ")
	f.Fuzz(func(t *testing.T, message string) {
		got := restore.Telling(message)
		if len(got) > 300 || !utf8.ValidString(got) {
			t.Errorf("%d bytes: %q", len(got), got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("it can't be printed: %q", got)
		}
		if strings.TrimSpace(got) != got {
			t.Errorf("space around %q", got)
		}
	})
}
