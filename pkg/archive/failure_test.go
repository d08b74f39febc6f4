// SPDX-License-Identifier: Apache-2.0

package archive_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cryopod/cryopod/pkg/archive"
)

func TestFailure(t *testing.T) {
	tests := map[string]struct {
		log, want string
	}{
		"first error tells": {
			log: "(00.000000) Version: 4.2.1 (gitid 0)\n" +
				"(00.004155) Error (criu/sk-inet.c:191): inet: Unsupported proto 262 for socket 1a3b.\n" +
				"(00.004190) ----------------------------------------\n" +
				"(00.004201) Error (criu/cr-dump.c:1669): Dump files (pid: 7) failed with -1\n" +
				"(00.005500) Error (criu/cr-dump.c:2098): Dumping FAILED.\n",
			want: "inet: Unsupported proto 262 for socket 1a3b",
		},
		"of a restored process": {
			log:  "(00.021000)      1: Error (criu/files-reg.c:1831): Can't open file dev/shm/x: No such file or directory\n",
			want: "Can't open file dev/shm/…: No such file or directory",
		},
		"only a consequence": {
			log:  "(00.1) Warn  (criu/net.c:1): hm\n(00.005500) Error (criu/cr-dump.c:2098): Dumping FAILED.\n",
			want: "Dumping FAILED",
		},
		"no error":               {log: "(00.1) all is well\n"},
		"nothing":                {},
		"no newline at the end":  {log: "(00.1) Error (a.c:1): gone", want: "gone"},
		"unprintable characters": {log: "(00.1) Error (a.c:1): a\x1b[31mb\xffc\n", want: "a [31mb?c"},
		"endless line": {
			log:  "(00.1) Error (a.c:1): " + strings.Repeat("x", 1<<20) + "\n(00.2) Error (b.c:1): later\n",
			want: "…",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := archive.Failure(strings.NewReader(tt.log)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFailureOfAnUnreadableLog(t *testing.T) {
	if got := archive.Failure(errReader{errors.New("gone")}); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
}
