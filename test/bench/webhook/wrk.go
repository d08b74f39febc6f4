// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
	"github.com/cryopod/cryopod/test/e2e/report"
)

//go:embed wrk.lua
var script []byte

// connections is how many wrk keeps busy.
const connections = 8

// flatOut lets wrk send the same requests as fast as they are answered, and fills in the metrics. Each of its connections waits for its answer:
// what it says of the time that requests take is about those that it made, and how many it makes depends on the answers.
func (s *straight) flatOut(ctx context.Context, o options, metrics map[string]report.Metric) (err error) {
	say("as many requests as wrk can make on %d connections", connections)
	if _, err := exec.LookPath("wrk"); err != nil {
		if err := debian.Install(ctx, "wrk"); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "cryopod-wrk-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files := map[string][]byte{"wrk.lua": script}
	for n, r := range s.reviews {
		files[fmt.Sprintf("%d.path", n+1)], files[fmt.Sprintf("%d.json", n+1)] = []byte(r.path), r.body
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("writing for wrk: %w", err)
		}
	}
	var rate, p50, p99 []float64
	for range o.rounds {
		r, err := s.wrk(ctx, dir, max(o.span/2, time.Second))
		if err != nil {
			return err
		}
		rate, p50, p99 = append(rate, r.rate), append(p50, r.p50), append(p99, r.p99)
	}
	metrics["wrk_rate"] = report.Metric{Value: report.Median(rate), Unit: "requests/s", Better: "higher", All: rate}
	metrics["wrk_p50"], metrics["wrk_p99"] = median(p50), median(p99)
	return nil
}

type flat struct{ rate, p50, p99 float64 }

func (s *straight) wrk(ctx context.Context, dir string, span time.Duration) (flat, error) {
	out, err := exec.CommandContext(ctx, "wrk", "--threads", "1", "--connections", fmt.Sprint(connections),
		"--duration", fmt.Sprintf("%.0fs", span.Seconds()), "--script", filepath.Join(dir, "wrk.lua"), s.program.Address(""), "--", dir).CombinedOutput()
	if err != nil {
		return flat{}, fmt.Errorf("running wrk: %w\n%s", err, out)
	}
	return parseWrk(string(out))
}

// parseWrk reads the line that the script writes in the end; its times are microseconds.
func parseWrk(out string) (flat, error) {
	for line := range strings.Lines(out) {
		var requests, micros, failed int
		var p50, p99 float64
		if n, _ := fmt.Sscanf(line, "result %d %d %f %f %d", &requests, &micros, &p50, &p99, &failed); n != 5 {
			continue
		}
		if failed > 0 || requests == 0 || micros == 0 {
			return flat{}, fmt.Errorf("running wrk: %d of %d requests failed", failed, requests)
		}
		return flat{rate: float64(requests) / (float64(micros) / 1e6), p50: p50 / 1000, p99: p99 / 1000}, nil
	}
	return flat{}, fmt.Errorf("running wrk: it gave no result:\n%s", out)
}
