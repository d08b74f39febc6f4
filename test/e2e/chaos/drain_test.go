// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/test/e2e/chaos"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
)

func TestParseAnswer(t *testing.T) {
	const prefix = `I1121 13:36:00.585084   19806 round_trippers.go:632] "Response" `
	cases := map[string]struct {
		line string
		want *history.Request
	}{
		"let through": {
			prefix + `verb="POST" url="https://127.0.0.1:1/api/v1/namespaces/n/pods/w-1/eviction?timeout=1m" status="201 Created" milliseconds=4836`,
			&history.Request{Verb: "evict", Pod: "w-1", Code: 201, Took: 4836 * time.Millisecond},
		},
		"put off": {
			prefix + `verb="POST" url="https://127.0.0.1:1/api/v1/namespaces/n/pods/w-1/eviction" status="429 Too Many Requests" milliseconds=20002`,
			&history.Request{Verb: "evict", Pod: "w-1", Code: 429, Took: 20002 * time.Millisecond},
		},
		"not answered": {
			prefix + `verb="POST" url="https://127.0.0.1:1/api/v1/namespaces/n/pods/w-1/eviction" status="" milliseconds=7`,
			&history.Request{Verb: "evict", Pod: "w-1", Took: 7 * time.Millisecond},
		},
		"another request": {prefix + `verb="GET" url="https://127.0.0.1:1/api/v1/namespaces/n/pods/w-1" status="200 OK" milliseconds=7`, nil},
		"kubectl's words": {"evicting pod n/w-1", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, chaos.ParseAnswer(c.line)); diff != "" {
				t.Errorf("parseAnswer (-want +got):\n%s", diff)
			}
		})
	}
}
