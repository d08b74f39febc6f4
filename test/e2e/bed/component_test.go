// SPDX-License-Identifier: Apache-2.0

package bed_test

import (
	"testing"

	"github.com/cryopod/cryopod/test/e2e/bed"
)

const metrics = `# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{code="200",webhook="/mutate-pod"} 3
calls_total{code="500",webhook="/mutate-pod"} 0.5
calls_total{code="200",webhook="/mutate-eviction"} 70
calls_total_more{code="200",webhook="/mutate-pod"} 900
up 1
`

func TestSumMetric(t *testing.T) {
	cases := map[string]struct {
		name, label string
		want        float64
		fails       bool
	}{
		"adds what has the label": {name: "calls_total", label: `webhook="/mutate-pod"`, want: 3.5},
		"one sample":              {name: "calls_total", label: `webhook="/mutate-eviction"`, want: 70},
		"no such label":           {name: "calls_total", label: `webhook="/other"`, fails: true},
		"no such metric":          {name: "calls", label: `webhook="/mutate-pod"`, fails: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := bed.SumMetric(metrics, c.name, c.label)
			if (err != nil) != c.fails || got != c.want {
				t.Errorf("SumMetric = %v, %v, want %v and an error: %v", got, err, c.want, c.fails)
			}
		})
	}
}
