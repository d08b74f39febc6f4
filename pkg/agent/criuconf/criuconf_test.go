// SPDX-License-Identifier: Apache-2.0

package criuconf_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/agent/criuconf"
)

func TestEnsure(t *testing.T) {
	type want struct {
		owner   criuconf.Owner
		changed bool
		message []string // each must be part of it; none: it must be empty
		kept    bool
	}
	tests := map[string]struct {
		before *string
		want   want
	}{
		"no file":                      {nil, want{owner: criuconf.Managed, changed: true}},
		"an older one of ours":         {new("# Managed by cryopod-agent. Old.\ntcp-close\n"), want{owner: criuconf.Managed, changed: true}},
		"an administrator's, complete": {new("tcp-close\nfile-locks\n"), want{owner: criuconf.Administrator, kept: true}},
		"an administrator's, empty": {new(""), want{owner: criuconf.Administrator, kept: true,
			message: []string{"tcp-close", "file-locks", "can't be saved"}}},
		"an administrator's with tcp-established": {new("tcp-established\nfile-locks\n"), want{owner: criuconf.Administrator, kept: true,
			message: []string{"another node"}}},
		"an option in a comment is none": {new("# tcp-close\nfile-locks # yes\n"), want{owner: criuconf.Administrator, kept: true,
			message: []string{"tcp-close"}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "criu", "runc.conf")
			if tc.before != nil {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(*tc.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := criuconf.Ensure(path)
			if err != nil {
				t.Fatal(err)
			}
			if got.Owner != tc.want.owner || got.Changed != tc.want.changed {
				t.Errorf("Ensure = %+v, want %+v", got, tc.want)
			}
			if len(tc.want.message) == 0 && got.Message != "" {
				t.Errorf("message %q, want none", got.Message)
			}
			for _, part := range tc.want.message {
				if !strings.Contains(got.Message, part) {
					t.Errorf("message %q lacks %q", got.Message, part)
				}
			}
			after, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if tc.want.kept && string(after) != *tc.before {
				t.Errorf("the administrator's file was changed:\n%s", cmp.Diff(*tc.before, string(after)))
			}
			if !tc.want.kept && !criuconf.Options(string(after))["tcp-close"] {
				t.Errorf("tcp-close is not in the written file:\n%s", after)
			}
			again, err := criuconf.Ensure(path)
			if err != nil || again.Changed || again.Owner != tc.want.owner {
				t.Errorf("a second Ensure = %+v, %v; want no change", again, err)
			}
			left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".cryopod-*"))
			if len(left) != 0 {
				t.Errorf("temporary files left: %v", left)
			}
		})
	}
}

func TestEnsureReportsAnUnwritableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := criuconf.Ensure(filepath.Join(file, "runc.conf"))
	if err == nil || got.Owner != criuconf.Missing {
		t.Errorf("Ensure below a file = %+v, %v; want Missing and an error", got, err)
	}
}

func TestOptions(t *testing.T) {
	got := criuconf.Options("--tcp-close\nghost-limit 1M\n\n  log-file=/tmp/x\n#file-locks\n\tfile-locks\t# why\n")
	want := map[string]bool{"tcp-close": true, "ghost-limit": true, "log-file": true, "file-locks": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Options (-want +got):\n%s", diff)
	}
}
