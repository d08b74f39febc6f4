// SPDX-License-Identifier: Apache-2.0

package selftest_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/cryopod/cryopod/pkg/agent/selftest"
)

// FuzzVersionIn: of an archive comes a version of CRIU, nothing, or an error.
func FuzzVersionIn(f *testing.F) {
	path := filepath.Join(f.TempDir(), "archive.tar")
	if err := writeArchive(path, "nonce"); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:700])
	f.Add([]byte{})
	version := regexp.MustCompile(`^([0-9][0-9A-Za-z.~+-]{0,31})?$`)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := selftest.VersionIn(path)
		if !version.MatchString(got) || err != nil && got != "" {
			t.Errorf("version %q, error %v", got, err)
		}
	})
}

// FuzzMemory: a process's state that can be read is written as it was read.
func FuzzMemory(f *testing.F) {
	f.Add("0123456789abcdef 42")
	f.Add("a")
	f.Add("a -1\n")
	f.Fuzz(func(t *testing.T, text string) {
		once, err := selftest.ParseMemory(text)
		if err != nil {
			return
		}
		if twice, err := selftest.ParseMemory(once); err != nil || twice != once {
			t.Errorf("%q became %q and %q (%v)", text, once, twice, err)
		}
	})
}

// FuzzRuntimeErrors: whatever a runtime says of its failure, and whatever its version, something is told.
func FuzzRuntimeErrors(f *testing.F) {
	f.Add("rpc error: code = Unimplemented desc = x", "2.3.7")
	f.Add("restore via CreateContainer is disabled", "v2")
	f.Add("x", "99999999999999999999.1")
	f.Fuzz(func(t *testing.T, text, version string) {
		if text == "" {
			return
		}
		err := errors.New("creating a container: " + text)
		if selftest.ExplainDump(err) == "" || selftest.ExplainRestore(err, version) == "" {
			t.Errorf("nothing is told of %q", text)
		}
	})
}
