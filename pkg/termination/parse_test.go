// SPDX-License-Identifier: Apache-2.0

package termination_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/termination"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want func(termination.List) termination.List
	}{
		"nothing": {want: func(l termination.List) termination.List { return l }},
		"adds": {
			text: "example.com/going=60s, gone-soon=5s:voluntary, example.com/drain=10m:drained",
			want: func(l termination.List) termination.List {
				return append(l, termination.Taint{Key: "example.com/going", Notice: time.Minute},
					termination.Taint{Key: "gone-soon", Notice: 5 * time.Second, Voluntary: true},
					termination.Taint{Key: "example.com/drain", Notice: 10 * time.Minute, Voluntary: true, Drained: true})
			},
		},
		"replaces": {
			text: spot + "=1h:voluntary",
			want: func(l termination.List) termination.List {
				l[0] = termination.Taint{Key: spot, Notice: time.Hour, Voluntary: true}
				return l
			},
		},
		"leaves out": {text: "-" + spot, want: func(l termination.List) termination.List { return l[1:] }},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := termination.Parse(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want(termination.Defaults()), got); diff != "" {
				t.Errorf("list (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"example.com/going":                      "want KEY=NOTICE, KEY=NOTICE:voluntary, KEY=NOTICE:drained or -KEY",
		"example.com/going=":                     `"" is no duration from 5s to 1h0m0s`,
		"example.com/going=1s":                   `"1s" is no duration`,
		"example.com/going=2h":                   `"2h" is no duration`,
		"example.com/going=60s:soon":             `"60s:soon" is no duration`,
		"a/b/c=60s":                              `"a/b/c" is no taint's key`,
		"=60s":                                   `"" is no taint's key`,
		"node.kubernetes.io/out-of-service=60s":  "gone already",
		"-example.com/going":                     "it is not in the list; it has aws-node-termination-handler/spot-itn, ",
		"a=60s,a=70s":                            `"a" is there twice`,
		"-karpenter.sh/disrupted," + spot + "=x": `"x" is no duration`,
	} {
		t.Run(text, func(t *testing.T) {
			l, err := termination.Parse(text)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Parse = %v, %v; want an error with %q", l, err, want)
			}
		})
	}
}
