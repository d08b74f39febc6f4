// SPDX-License-Identifier: Apache-2.0

package accuracy_test

import (
	"strings"
	"testing"

	"github.com/cryopod/cryopod/test/bench/scheduler/accuracy"
)

const log = `I1121 19:30:24.100000       1 schedule_one.go:90] "About to try and schedule pod" pod="ns/app-1"
I1121 19:30:24.200000       1 reserve.go:45] "Predicted" pod="ns/app-1" node="node-1" seconds=9.5 pullBytes=1 restoreBytes=2
I1121 19:30:25.200000       1 reserve.go:45] "Predicted" pod="ns/app-1" node="node-2" seconds=1.25 pullBytes=300 restoreBytes=400
I1121 19:30:25.300000       1 reserve.go:45] "Predicted" pod="ns/app-11" node="node-2" seconds=7 pullBytes=0 restoreBytes=0
I1121 19:30:27.200000       1 reserve.go:91] "Started" pod="ns/app-1" node="node-2" predicted=1.25 actual=2e+00
I1121 19:30:28.200000       1 reserve.go:45] "Predicted" pod="ns/app-2" node="node-2" seconds=soon pullBytes=0 restoreBytes=0
`

func TestSaid(t *testing.T) {
	node, predicted, told, pull, restored, recalled, err := accuracy.Said(log, "ns/app-1")
	if node != "node-2" || predicted != 1.25 || told != 2 || pull != 300 || restored != 400 || !recalled || err != nil {
		t.Errorf("Said = %q, %v, %v, %v, %v, %v, %v", node, predicted, told, pull, restored, recalled, err)
	}
	if _, predicted, _, _, _, recalled, err := accuracy.Said(log, "ns/app-11"); predicted != 7 || recalled || err != nil {
		t.Errorf("of a pod that does not run yet: %v, %v, %v", predicted, recalled, err)
	}
	for _, name := range []string{"ns/app-2", "ns/app-3"} {
		if _, _, _, _, _, _, err := accuracy.Said(log, name); err == nil {
			t.Errorf("nothing can be read of pod %q, and there is no error", name)
		}
	}
}

func TestValidate(t *testing.T) {
	cases := map[string]struct {
		spoil func(*accuracy.Config)
		tells string
	}{
		"as it is":   {spoil: func(*accuracy.Config) {}},
		"no size":    {spoil: func(c *accuracy.Config) { c.Sizes = nil }, tells: "sizes"},
		"size zero":  {spoil: func(c *accuracy.Config) { c.Sizes = []int{8, 0} }, tells: "sizes"},
		"a rate < 0": {spoil: func(c *accuracy.Config) { c.Rates = []int{-1} }, tells: "rates"},
		"no round":   {spoil: func(c *accuracy.Config) { c.Rounds = 0 }, tells: "rounds"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			config := accuracy.Defaults()
			c.spoil(&config)
			err := config.Validate()
			if (err != nil) != (c.tells != "") || err != nil && !strings.Contains(err.Error(), c.tells) {
				t.Errorf("Validate = %v, want an error of %q", err, c.tells)
			}
		})
	}
}
