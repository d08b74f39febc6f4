// SPDX-License-Identifier: Apache-2.0

package debian_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
)

func TestMirrorOf(t *testing.T) {
	tests := map[string]struct {
		targets string
		want    string
		err     error
	}{
		"security comes first": {
			targets: "main stable-security http://mirror.example/debian-security/\nmain stable http://mirror.example/debian/\n",
			want:    "http://mirror.example/debian",
		},
		"updates come first": {
			targets: "main stable-updates https://updates.example/debian\nmain stable https://mirror.example/debian\n",
			want:    "https://mirror.example/debian",
		},
		"only updates":     {targets: "main stable-updates https://updates.example/debian\n", want: "https://updates.example/debian"},
		"another part":     {targets: "contrib stable http://mirror.example/debian\n", err: debian.ErrNoMirror},
		"files, no server": {targets: "main stable file:/srv/debian\n", err: debian.ErrNoMirror},
		"nothing":          {err: debian.ErrNoMirror},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := debian.MirrorOf(test.targets)
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestCleanKeepsWhatRuns(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{
		"usr/bin/redis-server", "etc/redis/redis.conf", "usr/share/man/man1/redis.1", "usr/share/doc/redis/copyright",
		"etc/apt/sources.list", "var/lib/apt/lists/mirror.example_Packages", "var/cache/apt/archives/redis.deb",
		"var/lib/dpkg/status", "var/log/dpkg.log",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := debian.Clean(root); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			got = append(got, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"etc/redis/redis.conf", "usr/bin/redis-server", "var/lib/dpkg/status"}, got); diff != "" {
		t.Errorf("files that are left (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(root, "usr/share/man/man1")); err != nil {
		t.Errorf("update-alternatives needs the folder of manual pages: %v", err)
	}
}

func TestRunTellsTheEndOfTheOutput(t *testing.T) {
	_, err := debian.Run(exec.Command("/bin/sh", "-c", "seq 100; echo no space left >&2; exit 3"))
	if err == nil {
		t.Fatal("a failed command gave no error")
	}
	for _, want := range []string{"exit status 3", "\n100\n", "no space left"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "\n50\n") {
		t.Errorf("error has the whole output:\n%v", err)
	}
}

func TestEnvironmentIsNotTheCallers(t *testing.T) {
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	t.Setenv("http_proxy", "http://proxy.example")
	env := debian.Environment()
	if slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "PYTHON") }) {
		t.Errorf("a variable of the caller's is in %v", env)
	}
	if !slices.Contains(env, "http_proxy=http://proxy.example") {
		t.Errorf("the way to the mirror is not in %v", env)
	}
}
