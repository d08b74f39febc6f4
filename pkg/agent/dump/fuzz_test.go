// SPDX-License-Identifier: Apache-2.0

package dump_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/cryopod/cryopod/pkg/agent/dump"
)

// answered is an error with an answer that is not to be shown.
type answered struct{ text string }

func (answered) Error() string    { return "kubelet answered 500" }
func (a answered) Answer() string { return a.text }

// FuzzExplain: why a dump failed is told in one line that can be printed, whatever the kubelet and CRIU say, and is nothing that they made up.
func FuzzExplain(f *testing.F) {
	f.Add(runcFailure)
	f.Add("checkpoint/restore requires at least CRIU 31600, current version is 99999999999999999999999999999")
	f.Add("criu failed: \x1b[31mPASSWORD=hunter2 /home/x/y: unknown path= /x")
	f.Add("criu binary not found in PATH")
	f.Fuzz(func(t *testing.T, text string) {
		for _, got := range []string{dump.Plain(text), dump.Explain(answered{text}, "", "").Error()} {
			if len(got) > 400 || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("told %q", got)
			}
		}
	})
}
