// SPDX-License-Identifier: Apache-2.0

package toolchain_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
)

// machine is a host that lacks nothing.
func machine() (toolchain.Host, fstest.MapFS) {
	files := fstest.MapFS{
		"proc/self/status":                 {Data: []byte("Name:\tgo\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n")},
		"proc/sys/kernel/ns_last_pid":      {},
		"proc/filesystems":                 {Data: []byte("nodev\ttmpfs\nnodev\toverlay\n\text4\n")},
		"sys/fs/cgroup/cgroup.controllers": {},
	}
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "uts"} {
		files["proc/self/ns/"+name] = &fstest.MapFile{}
	}
	return toolchain.Host{
		Root:       files,
		HasCommand: func(string) bool { return true },
		LoadModule: func(string) error { return errors.New("no modules") },
	}, files
}

func TestPreflight(t *testing.T) {
	tests := map[string]struct {
		change func(h *toolchain.Host, files fstest.MapFS)
		// want are parts of the sentences, one for each thing that lacks.
		want []string
	}{
		"nothing lacks": {change: func(*toolchain.Host, fstest.MapFS) {}},
		"not root": {
			change: func(h *toolchain.Host, files fstest.MapFS) {
				h.UID = 1000
				delete(files, "proc/sys/kernel/ns_last_pid")
			},
			want: []string{"as root"},
		},
		"unprivileged container": {
			change: func(_ *toolchain.Host, files fstest.MapFS) {
				files["proc/self/status"] = &fstest.MapFile{Data: []byte("CapEff:\t00000000a80425fb\n")}
			},
			want: []string{"CAP_SYS_ADMIN"},
		},
		"no namespaces": {
			change: func(_ *toolchain.Host, files fstest.MapFS) {
				delete(files, "proc/self/ns/net")
				delete(files, "proc/self/ns/uts")
			},
			want: []string{"no net, uts namespaces"},
		},
		"a kernel without CRIU's option": {
			change: func(_ *toolchain.Host, files fstest.MapFS) { delete(files, "proc/sys/kernel/ns_last_pid") },
			want:   []string{"CONFIG_CHECKPOINT_RESTORE"},
		},
		"no overlay": {
			change: func(_ *toolchain.Host, files fstest.MapFS) { files["proc/filesystems"].Data = []byte("\text4\n") },
			want:   []string{"overlay"},
		},
		"overlay as a module": {
			change: func(h *toolchain.Host, files fstest.MapFS) {
				files["proc/filesystems"].Data = []byte("\text4\n")
				h.LoadModule = func(name string) error {
					files["proc/filesystems"].Data = []byte("\text4\nnodev\t" + name + "\n")
					return nil
				}
			},
		},
		"cgroup v1": {
			change: func(_ *toolchain.Host, files fstest.MapFS) {
				delete(files, "sys/fs/cgroup/cgroup.controllers")
				files["sys/fs/cgroup/memory/tasks"] = &fstest.MapFile{}
			},
		},
		"no cgroups": {
			change: func(_ *toolchain.Host, files fstest.MapFS) { delete(files, "sys/fs/cgroup/cgroup.controllers") },
			want:   []string{"no cgroups"},
		},
		"no Go and no overlay": {
			change: func(h *toolchain.Host, files fstest.MapFS) {
				files["proc/filesystems"].Data = nil
				h.HasCommand = func(name string) bool { return name != "go" }
			},
			want: []string{"overlay", "no go command"},
		},
		"not Debian": {
			change: func(h *toolchain.Host, _ fstest.MapFS) {
				h.HasCommand = func(name string) bool { return name != "apt-get" }
			},
			want: []string{"apt-get"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			host, files := machine()
			test.change(&host, files)
			var got []string
			if err := host.Check(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want a sentence for each of %q", got, test.want)
			}
			for i, part := range test.want {
				if !strings.Contains(got[i], part) {
					t.Errorf("sentence %q does not tell of %q", got[i], part)
				}
			}
		})
	}
}
