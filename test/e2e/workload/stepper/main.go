// SPDX-License-Identifier: Apache-2.0

// Command stepper is the Go workload of the end-to-end tests, and the driver of those that are servers.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cryopod/cryopod/test/e2e/workload"
)

// terminated is the exit code of a process that SIGTERM ended: a Job must not take it for success.
const terminated = 128 + int(syscall.SIGTERM)

type options struct {
	name, recorder           string
	interval                 time.Duration
	mebibytes                int
	until                    int64
	listen, health           string
	mptcp                    bool
	stateFile, openFile      string
	redisAddress, statusPage string
}

func (o *options) register(fs *flag.FlagSet) {
	fs.StringVar(&o.name, "name", "", "the recorder's name for this process")
	fs.StringVar(&o.recorder, "recorder", "", "host and port of the recorder; the connection is kept open")
	fs.DurationVar(&o.interval, "interval", 50*time.Millisecond, "time from one step to the next")
	fs.IntVar(&o.mebibytes, "memory", 8, "MiB of memory to fill and check")
	fs.Int64Var(&o.until, "until", 0, "step after which to end well; 0 goes on for ever")
	fs.StringVar(&o.listen, "listen", "", "address to serve echoes on")
	fs.StringVar(&o.health, "health", "", "address to answer HTTP probes on")
	fs.BoolVar(&o.mptcp, "mptcp", false, "hold an MPTCP socket, which CRIU can't dump")
	fs.StringVar(&o.stateFile, "state-file", "", "file on storage that moves with the pod: read and replaced at each step")
	fs.StringVar(&o.openFile, "open-file", "", "file that is kept open and appended to at each step")
	fs.StringVar(&o.redisAddress, "redis", "", "host and port of a Redis server that counts the steps")
	fs.StringVar(&o.statusPage, "nginx", "", "URL of nginx's stub_status page to ask at each step")
}

func (o *options) validate() error {
	switch {
	case o.name == "":
		return fmt.Errorf("validating --name: it is empty")
	case o.recorder == "":
		return fmt.Errorf("validating --recorder: it is empty")
	case o.interval <= 0:
		return fmt.Errorf("validating --interval: %v is not positive", o.interval)
	case o.redisAddress != "" && o.statusPage != "":
		return fmt.Errorf("validating --nginx: --redis is set too, and there is one source of steps")
	default:
		return nil
	}
}

func main() {
	var o options
	o.register(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "stepper:", err)
		if ctx.Err() != nil {
			os.Exit(terminated)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if err := o.validate(); err != nil {
		return err
	}
	w := &workload.Workload{
		Name:     o.name,
		Reporter: &workload.Reporter{Address: o.recorder},
		Source:   o.source(),
		Ballast:  workload.NewBallast(o.mebibytes),
		Interval: o.interval,
		Until:    o.until,
	}
	if o.listen != "" {
		if err := workload.Echo(o.listen); err != nil {
			return err
		}
	}
	if o.health != "" {
		if err := workload.Health(o.health); err != nil {
			return err
		}
	}
	if o.mptcp {
		if err := workload.ListenMPTCP(); err != nil {
			return err
		}
	}
	if o.stateFile != "" {
		w.Tasks = append(w.Tasks, &workload.StateFile{Path: o.stateFile})
	}
	if o.openFile != "" {
		file, err := workload.NewOpenFile(o.openFile)
		if err != nil {
			return err
		}
		w.Tasks = append(w.Tasks, file)
	}
	return w.Run(ctx)
}

func (o *options) source() workload.Source {
	switch {
	case o.redisAddress != "":
		return &workload.Redis{Address: o.redisAddress}
	case o.statusPage != "":
		return &workload.Nginx{URL: o.statusPage}
	default:
		return &workload.Counter{}
	}
}
