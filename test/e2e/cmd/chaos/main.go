// SPDX-License-Identifier: Apache-2.0

// Command chaos attacks Cryopod on a local cluster of its own, run after run, and tells which of its promises were broken.
package main

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/chaos"
	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// maxSeed keeps the numbers short that people have to repeat.
const maxSeed = 1_000_000

type options struct {
	cluster  string
	nodes    int
	seed     uint64
	runs     int
	faults   string
	duration time.Duration
	out      string
	keep     bool
	collect  string
}

func main() {
	var o options
	flag.StringVar(&o.cluster, "cluster", "chaos", "name of the local cluster, which is started when it does not run")
	flag.IntVar(&o.nodes, "nodes", 2, "number of its nodes")
	flag.Uint64Var(&o.seed, "seed", 0, "number of the first run, the next ones follow it; 0 draws one")
	flag.IntVar(&o.runs, "runs", 10, "number of runs")
	flag.StringVar(&o.faults, "faults", ".", "regular expression of the faults to draw from; a seed gives the same plan with the same ones only")
	flag.DurationVar(&o.duration, "duration", 0, "after how long to begin no more runs; 0 for never")
	flag.StringVar(&o.out, "out", "_out/chaos.json", "where to write the report; the histories go to a folder of that name")
	flag.BoolVar(&o.keep, "keep", false, "leave the cluster up")
	flag.StringVar(&o.collect, "collect", "",
		"make no runs: write the report of those whose histories are in these folders, separated by commas")
	flag.Parse()
	// What client-go has to say of an API server that is away is no news here.
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func (o *options) complete() (*regexp.Regexp, error) {
	if o.runs < 1 {
		return nil, fmt.Errorf("validating --runs: %d is less than 1", o.runs)
	}
	if o.nodes < 2 {
		return nil, fmt.Errorf("validating --nodes: %d is less than 2", o.nodes)
	}
	faults, err := regexp.Compile(o.faults)
	if err != nil {
		return nil, fmt.Errorf("validating --faults: %w", err)
	}
	if len(chaos.Faults(faults)) == 0 {
		return nil, fmt.Errorf("validating --faults: %q matches none", o.faults)
	}
	if o.seed == 0 {
		var b [8]byte
		if _, err := crand.Read(b[:]); err != nil {
			return nil, fmt.Errorf("drawing a seed: %w", err)
		}
		o.seed = 1 + binary.NativeEndian.Uint64(b[:])%maxSeed
	}
	return faults, nil
}

// histories is the folder of the histories.
func (o *options) histories() string {
	return o.out[:len(o.out)-len(filepath.Ext(o.out))]
}

func run(ctx context.Context, o options) (err error) {
	if o.collect != "" {
		return (&series{options: o}).collected(strings.Split(o.collect, ","))
	}
	faults, err := o.complete()
	if err != nil {
		return err
	}
	s := &series{options: o}
	mark := dirty{filepath.Join(o.histories(), o.cluster+".unfinished")}
	b, err := up(ctx, o, mark)
	if err != nil {
		return err
	}
	defer func() {
		b.Close()
		if !o.keep {
			err = errors.Join(err, cluster.Down(context.WithoutCancel(ctx), o.cluster), mark.remove())
		}
	}()
	engine, err := chaos.New(ctx, chaos.Options{Bed: b, Nodes: nodeNames(b), Faults: chaos.Faults(faults), Out: o.histories()})
	if err != nil {
		return err
	}
	defer engine.Close()
	// A series that is broken off is worth a report as well.
	return errors.Join(s.attack(ctx, engine, mark), s.write())
}

func nodeNames(b *bed.Bed) []string {
	var names []string
	for _, n := range b.Cluster.Nodes() {
		names = append(names, n.Name())
	}
	return names
}

// up brings the cluster up. One that a killed attack left in the middle of a run is broken in ways that nobody knows: it is replaced.
func up(ctx context.Context, o options, mark dirty) (*bed.Bed, error) {
	if mark.there() {
		fmt.Printf("cluster %q was left in the middle of a run: it is made anew\n", o.cluster)
		if err := cluster.Down(ctx, o.cluster); err != nil {
			return nil, err
		}
		if err := mark.remove(); err != nil {
			return nil, err
		}
	}
	return bed.Up(ctx, bed.Options{Cluster: o.cluster, Nodes: o.nodes, Progress: os.Stdout})
}

// dirty is a file that is there while a run is under way.
type dirty struct{ path string }

func (d dirty) there() bool {
	_, err := os.Stat(d.path)
	return err == nil
}

func (d dirty) make() error {
	if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
		return fmt.Errorf("noting that a run is under way: %w", err)
	}
	if err := os.WriteFile(d.path, nil, 0o644); err != nil {
		return fmt.Errorf("noting that a run is under way: %w", err)
	}
	return nil
}

func (d dirty) remove() error {
	if err := os.Remove(d.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("noting that no run is under way: %w", err)
	}
	return nil
}
