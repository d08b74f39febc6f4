// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes"
)

// Metrics are the values of a metric's series, each with its labels.
type Metrics map[string][]Series

// Series is one value with its labels.
type Series struct {
	Labels map[string]string
	Value  float64
}

// Sum adds up what has all of the labels, given as name and value in turn.
func (m Metrics) Sum(name string, labels ...string) float64 {
	sum := 0.0
	for _, s := range m[name] {
		ok := true
		for i := 0; i+1 < len(labels); i += 2 {
			ok = ok && s.Labels[labels[i]] == labels[i+1]
		}
		if ok {
			sum += s.Value
		}
	}
	return sum
}

// label matches one label of a series.
var label = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)

// ParseMetrics reads what a program serves at /metrics.
func ParseMetrics(text string) Metrics {
	all := Metrics{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		end := strings.LastIndexByte(line, ' ')
		if end < 0 || line[0] == '#' {
			continue
		}
		value, err := strconv.ParseFloat(line[end+1:], 64)
		if err != nil {
			continue
		}
		name, labels, _ := strings.Cut(line[:end], "{")
		s := Series{Labels: map[string]string{}, Value: value}
		for _, found := range label.FindAllStringSubmatch(labels, -1) {
			s.Labels[found[1]] = found[2]
		}
		all[name] = append(all[name], s)
	}
	return all
}

// Metrics are those of the API server.
func (b *Bed) Metrics(ctx context.Context) (Metrics, error) {
	clients, err := kubernetes.NewForConfig(b.AdminConfig)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	text, err := clients.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the API server's metrics: %w", err)
	}
	return ParseMetrics(string(text)), nil
}
