// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/cryopod/cryopod/test/e2e/timeline"

// summary is _out/demo.json.
type summary struct {
	Workload string `json:"workload"`
	FromNode string `json:"fromNode"`
	ToNode   string `json:"toNode"`
	// StepsBefore is the last step that the recorder had from the old node, FirstStepAfter the first one from the new node.
	StepsBefore    int64 `json:"stepsBefore"`
	FirstStepAfter int64 `json:"firstStepAfter"`
	StepsLost      int   `json:"stepsLost"`
	StepsRepeated  int   `json:"stepsRepeated"`
	// MemoryBytes is what the process holds and checks, ImageBytes what was pushed of it.
	MemoryBytes int64 `json:"memoryBytes"`
	ImageBytes  int64 `json:"imageBytes"`
	// DowntimeSeconds is how long the recorder heard nothing.
	DowntimeSeconds float64         `json:"downtimeSeconds"`
	Phases          timeline.Phases `json:"phases"`
}

func summarize(e *evidence) summary {
	m := e.Verdict.Moves[0]
	return summary{
		Workload:        m.Last.Workload,
		FromNode:        m.Last.Node,
		ToNode:          m.First.Node,
		StepsBefore:     m.Last.Step,
		FirstStepAfter:  m.First.Step,
		StepsLost:       len(e.Verdict.Lost),
		StepsRepeated:   len(e.Verdict.Repeated),
		MemoryBytes:     m.First.Bytes,
		ImageBytes:      e.ImageBytes(),
		DowntimeSeconds: m.Downtime().Seconds(),
		Phases:          e.Observations.Phases(),
	}
}
