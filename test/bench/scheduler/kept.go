// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cryopod/cryopod/test/e2e/report"
)

// kept is what an earlier report, from the same machine, has of the parts that are not measured now.
func kept(file, machine string, measured []part) (map[string]report.Metric, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]report.Metric{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the earlier report: %w", err)
	}
	var r report.Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("reading the earlier report %q: %w", file, err)
	}
	if r.Machine != machine {
		return nil, fmt.Errorf("adding to the report %q: it is from another machine (%s); give another --out", file, r.Machine)
	}
	maps.DeleteFunc(r.Metrics, func(name string, _ report.Metric) bool {
		return slices.ContainsFunc(measured, func(p part) bool {
			return slices.ContainsFunc(p.prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		})
	})
	return r.Metrics, nil
}
