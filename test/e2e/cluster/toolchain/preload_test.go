// SPDX-License-Identifier: Apache-2.0

package toolchain_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
)

// asker asks for limits in the way that CRIU does, and for something else by the same function.
const asker = `
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <unistd.h>
#include <sys/syscall.h>

int main(int argc, char **argv)
{
	unsigned long long limit[2] = { 1, 1 };
	long pid = atol(argv[1]);

	if (argc != 2 || syscall(SYS_getpid) != getpid())
		return 2;
	for (int resource = 0; resource < 16; resource++) {
		if (syscall(SYS_prlimit64, pid, resource, NULL, limit))
			return errno == EPERM ? 3 : 4;
		printf("%llu %llu\n", limit[0], limit[1]);
	}
	if (syscall(SYS_prlimit64, pid, 0, limit, NULL) == 0 || errno != EPERM)
		return 5;
	return 0;
}
`

func TestPreloadAnswersForTheMissingCapability(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("starting processes of another user needs root")
	}
	for _, name := range []string{"gcc", "setpriv", "prlimit"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("there is no %s", name)
		}
	}
	dir := t.TempDir()
	library := filepath.Join(dir, "criu-rlimit.so")
	if err := toolchain.CompilePreload(t.Context(), library); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "asker")
	compile := exec.Command("gcc", "-x", "c", "-o", program, "-")
	compile.Stdin = strings.NewReader(asker)
	if output, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("compiling: %v\n%s", err, output)
	}

	other := otherUser(t)
	if got, err := ask(program, other, ""); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Fatalf("without the library: %q, %v; want a refusal", got, err)
	}
	got, err := ask(program, other, library)
	if err != nil {
		t.Fatalf("with the library: %v", err)
	}
	// The other process inherited this one's limits but for the one that it was started with.
	var want strings.Builder
	for resource := range 16 {
		var limit unix.Rlimit
		if err := unix.Prlimit(0, resource, nil, &limit); err != nil {
			t.Fatal(err)
		}
		if resource == unix.RLIMIT_NOFILE {
			limit = unix.Rlimit{Cur: 123, Max: 456}
		}
		fmt.Fprintln(&want, limit.Cur, limit.Max)
	}
	if diff := cmp.Diff(want.String(), got); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

// otherUser starts a process of another user with limits of its own and returns its number.
func otherUser(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("prlimit", "--nofile=123:456", "cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 33, Gid: 33}}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	// Once it answers, it is cat and has its limits.
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// ask asks for a process's limits without CAP_SYS_RESOURCE.
func ask(program string, pid int, library string) (string, error) {
	cmd := exec.Command("setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource",
		"env", "LD_PRELOAD="+library, program, fmt.Sprint(pid))
	output, err := cmd.Output()
	return string(output), err
}
