// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseWrk(t *testing.T) {
	const table = "Running 3s test @ https://127.0.0.1:9443/\n  Latency     1.89ms\nRequests/sec:   4210.52\n"
	tests := map[string]struct {
		out   string
		want  flat
		fails bool
	}{
		"all answered": {out: table + "\nresult 12000 3000000 1500.000000 6250.000000 0\n", want: flat{rate: 4000, p50: 1.5, p99: 6.25}},
		"some failed":  {out: table + "\nresult 12000 3000000 1500.000000 6250.000000 7\n", fails: true},
		"none made":    {out: table + "\nresult 0 3000000 0.000000 0.000000 0\n", fails: true},
		"no result":    {out: table, fails: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseWrk(tc.out)
			if (err != nil) != tc.fails {
				t.Fatalf("error = %v", err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(flat{})); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}
