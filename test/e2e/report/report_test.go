// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/test/e2e/report"
)

func TestMedian(t *testing.T) {
	cases := map[string]struct {
		values []float64
		want   float64
	}{
		"one":         {values: []float64{3}, want: 3},
		"odd":         {values: []float64{9, 1, 5}, want: 5},
		"even":        {values: []float64{9, 1, 5, 2}, want: 3.5},
		"left as was": {values: []float64{2, 1}, want: 1.5},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			before := append([]float64(nil), c.values...)
			if got := report.Median(c.values); got != c.want {
				t.Errorf("Median(%v) = %v, want %v", c.values, got, c.want)
			}
			if diff := cmp.Diff(before, c.values); diff != "" {
				t.Errorf("Median changed its argument (-before +after):\n%s", diff)
			}
		})
	}
}

const written = `{
  "name": "x",
  "machine": "m",
  "runs": 2,
  "metrics": {
    "alone": {
      "value": 0,
      "unit": "steps",
      "better": "lower"
    },
    "beside": {
      "value": 2,
      "unit": "s",
      "better": "lower",
      "rival": "other",
      "rivalValue": 5,
      "ratio": 2.5
    }
  },
  "command": "make x"
}
`

func TestWriteLeavesOutWhatWasNotMeasured(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b.json")
	r := report.Report{Name: "x", Machine: "m", Runs: 2, Command: "make x", Metrics: map[string]report.Metric{
		"alone":  {Unit: "steps", Better: "lower"},
		"beside": report.Metric{Value: 2, Unit: "s", Better: "lower"}.Against("other", 5),
	}}
	if err := report.Write(path, r); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(written, string(got)); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
}

func TestPrint(t *testing.T) {
	goal := 1.5
	var b strings.Builder
	report.Print(&b, map[string]report.Metric{
		"beside": report.Metric{Value: 2, Unit: "s"}.Against("other", 5),
		"aimed":  {Value: 1, Unit: "s", Goal: &goal},
	})
	const want = "aimed        1.0000 s  [goal 1.5]\nbeside       2.0000 s  (other: 5.0000)\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
