// SPDX-License-Identifier: Apache-2.0

// Package chaos attacks Cryopod on a real cluster: pods are made to go in some way while things go wrong at moments drawn from a number,
// and all that was done and seen is taken down for test/e2e/chaos/check to judge.
package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/chaos/check"
	"github.com/cryopod/cryopod/test/e2e/chaos/fault"
	"github.com/cryopod/cryopod/test/e2e/chaos/history"
	"github.com/cryopod/cryopod/test/e2e/chaos/plan"
	"github.com/cryopod/cryopod/test/e2e/chaos/residue"
	"github.com/cryopod/cryopod/test/e2e/recorder"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// Label marks the namespaces of runs.
const Label = "cryopod-chaos"

// Options say how to attack.
type Options struct {
	Bed *bed.Bed
	// Nodes are the names of the nodes that pods are driven off and go to, two at least.
	Nodes []string
	// Faults are the names of those to draw from.
	Faults []string
	// Out is the folder of the histories: OUT/SEED/history.jsonl and what helps to see why a run failed.
	Out string
}

// Engine makes runs, one after the other.
type Engine struct {
	Options
	witness *witness
	stop    func()
	// known is what was left over before, by whomever.
	known []residue.Leftover
}

// Faults are the names of the faults that match, in their fixed order.
func Faults(match *regexp.Regexp) []string {
	var found []string
	for _, f := range fault.All() {
		if match.MatchString(f.Name) {
			found = append(found, f.Name)
		}
	}
	if match.MatchString(plan.AllDown) {
		found = append(found, plan.AllDown)
	}
	return found
}

// New ends what a run that was broken off may have left, and begins to watch the cluster, until Close.
func New(ctx context.Context, o Options) (*Engine, error) {
	if len(o.Nodes) < 2 {
		return nil, fmt.Errorf("attacking on nodes %q: two are needed", o.Nodes)
	}
	if err := fault.Reset(ctx, o.Bed); err != nil {
		return nil, err
	}
	e := &Engine{Options: o}
	var err error
	if e.known, err = residue.Find(ctx, o.Bed, 0); err != nil {
		return nil, err
	}
	ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	if e.witness, err = watch(ctx, o.Bed); err != nil {
		e.stop()
		return nil, err
	}
	return e, nil
}

// Close ends the watch.
func (e *Engine) Close() { e.stop() }

// Result is a run with what is to be said of it.
type Result struct {
	Plan    plan.Plan     `json:"plan"`
	Verdict check.Verdict `json:"verdict"`
	// Faults are those that were made.
	Faults []string      `json:"faults"`
	Took   time.Duration `json:"took"`
	// Dir is where its history is.
	Dir string `json:"-"`
}

// The files of a run.
const (
	historyFile  = "history.jsonl"
	recorderFile = "recorder.jsonl"
	resultFile   = "result.json"
)

// Results are those of all runs whose histories are in a folder, in the order of their seeds, each judged anew.
func Results(out string) ([]*Result, error) {
	files, err := filepath.Glob(filepath.Join(out, "*", resultFile))
	if err != nil {
		return nil, fmt.Errorf("looking for runs in %q: %w", out, err)
	}
	var all []*Result
	for _, f := range files {
		r := &Result{Dir: filepath.Dir(f)}
		if err := r.read(); err != nil {
			return nil, fmt.Errorf("reading run %q: %w", r.Dir, err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Result) int { return cmp.Compare(a.Plan.Seed, b.Plan.Seed) })
	return all, nil
}

// read reads the run of r.Dir.
func (r *Result) read() error {
	text, err := os.ReadFile(filepath.Join(r.Dir, resultFile))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, r); err != nil {
		return err
	}
	entries, err := readLines[history.Entry](filepath.Join(r.Dir, historyFile))
	if err != nil {
		return err
	}
	steps, err := readLines[recorder.Entry](filepath.Join(r.Dir, recorderFile))
	if err != nil {
		return err
	}
	r.Verdict = check.Judge(entries, steps)
	return nil
}

// readLines reads one JSON value a line.
func readLines[T any](path string) ([]T, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []T
	for d := json.NewDecoder(f); ; {
		var v T
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("reading entry %d of %q: %w", len(all)+1, path, err)
		}
		all = append(all, v)
	}
}

// Failed tells whether a promise was broken.
func (r *Result) Failed() bool { return len(r.Verdict.Violations) > 0 }

// Run makes the run of a number. An error says that there was none to judge: the pods to be attacked never ran, say.
func (e *Engine) Run(ctx context.Context, seed uint64) (*Result, error) {
	p := plan.Draw(seed, e.Faults, len(e.Nodes))
	began := time.Now()
	dir := filepath.Join(e.Out, strconv.FormatUint(seed, 10))
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("removing the history of a former run: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making a folder for the history: %w", err)
	}
	f, err := os.Create(filepath.Join(dir, historyFile))
	if err != nil {
		return nil, fmt.Errorf("making the history: %w", err)
	}
	defer f.Close()
	r := newRun(e, p, history.NewLog(f), dir)
	entries, err := r.do(ctx)
	if err != nil {
		return nil, fmt.Errorf("making the run of seed %d (%v): %w", seed, p, err)
	}
	result := &Result{Plan: p, Verdict: check.Judge(r.log.Entries(), entries), Faults: r.made(), Took: time.Since(began), Dir: dir}
	if err := report.Write(filepath.Join(dir, resultFile), result); err != nil {
		return nil, err
	}
	return result, r.log.Err()
}

// do makes the run and returns what the recorder heard.
func (r *run) do(ctx context.Context) (entries []recorder.Entry, err error) {
	defer func() {
		if err != nil {
			r.diagnose(ctx)
			// Nothing of it may be left for the next one.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
			defer cancel()
			err = errors.Join(err, fault.Reset(ctx, r.Bed), r.clear(ctx))
		}
	}()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	r.attack(ctx)
	r.rest(ctx)
	if entries, err = r.heard(ctx); err != nil {
		return nil, err
	}
	if verdict := check.Judge(r.log.Entries(), entries); suspicious(verdict) {
		r.diagnose(ctx)
	}
	r.end(ctx)
	// A run that was broken off says nothing.
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return entries, writeEntries(filepath.Join(r.dir, recorderFile), entries)
}

// suspicious tells whether anything is wrong already, before it is looked for what was left.
func suspicious(v check.Verdict) bool {
	for _, found := range v.Violations {
		if found.Invariant != check.NothingLeft {
			return true
		}
	}
	return false
}

// heard is what the recorder heard of the run's workloads.
func (r *run) heard(ctx context.Context) ([]recorder.Entry, error) {
	var all []recorder.Entry
	for _, w := range r.workloads {
		for _, c := range w.Containers {
			entries, err := r.Bed.Recorder.Entries(ctx, c, 0)
			if err != nil {
				return nil, err
			}
			all = append(all, entries...)
		}
	}
	return all, nil
}

// diagnose writes down what helps to see why the run failed.
func (r *run) diagnose(ctx context.Context) {
	f, err := os.Create(filepath.Join(r.dir, "diagnosis.txt"))
	if err != nil {
		return
	}
	defer f.Close()
	r.Bed.Diagnose(ctx, f, r.maker.Namespace)
	r.logs(ctx, f)
}

// logs writes down what Cryopod's parts have said since the run began, those of their former lives included.
func (r *run) logs(ctx context.Context, w io.Writer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	since := "--since=" + (time.Since(r.began) + time.Minute).Round(time.Second).String()
	for _, p := range r.parts(ctx) {
		for _, more := range [][]string{{"--previous"}, nil} {
			out, err := r.Bed.Kubectl.Run(ctx, append([]string{"logs", "-n", p.Namespace, p.Name, since, "--timestamps"}, more...)...)
			if err == nil && out != "" {
				fmt.Fprintf(w, "\n===== log of %s on %s %v\n%s", p.Name, p.Spec.NodeName, more, out)
			}
		}
	}
}
