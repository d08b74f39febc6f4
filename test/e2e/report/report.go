// SPDX-License-Identifier: Apache-2.0

// Package report writes what demo and benchmarks measured, in the form of docs/development.md.
package report

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Metric is one number with what it is compared to. What was not measured is left out.
type Metric struct {
	Value  float64  `json:"value"`
	Unit   string   `json:"unit"`
	Goal   *float64 `json:"goal,omitempty"`
	Better string   `json:"better"`
	// Rival is what was measured beside it in the same run, RivalValue its number, Ratio that divided by Value.
	Rival      string    `json:"rival,omitempty"`
	RivalValue *float64  `json:"rivalValue,omitempty"`
	Ratio      *float64  `json:"ratio,omitempty"`
	All        []float64 `json:"all,omitempty"`
}

// Report is a benchmark's result.
type Report struct {
	Name    string            `json:"name"`
	Machine string            `json:"machine"`
	Runs    int               `json:"runs"`
	Metrics map[string]Metric `json:"metrics"`
	Command string            `json:"command"`
}

// Against sets the rival and the ratio.
func (m Metric) Against(rival string, value float64) Metric {
	m.Rival, m.RivalValue = rival, &value
	if m.Value != 0 {
		ratio := value / m.Value
		m.Ratio = &ratio
	}
	return m
}

// Print tells the metrics to people, a line each, in the order of their names.
func Print(w io.Writer, metrics map[string]Metric) {
	names := slices.Sorted(maps.Keys(metrics))
	width := 0
	for _, name := range names {
		width = max(width, len(name))
	}
	for _, name := range names {
		m := metrics[name]
		fmt.Fprintf(w, "%-*s %12.4f %s", width, name, m.Value, m.Unit)
		if m.RivalValue != nil {
			fmt.Fprintf(w, "  (%s: %.4f)", m.Rival, *m.RivalValue)
		}
		if m.Goal != nil {
			fmt.Fprintf(w, "  [goal %g]", *m.Goal)
		}
		fmt.Fprintln(w)
	}
}

// Median is the middle of values, or the mean of the two in the middle. There must be at least one.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Machine tells what the numbers were measured on.
func Machine() string {
	model := runtime.GOARCH
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown")
	}
	return fmt.Sprintf("%d cores, %s, Linux %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)))
}

// Write writes v as JSON to path and makes the folders that it needs.
func Write(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %q: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the folder of %q: %w", path, err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
