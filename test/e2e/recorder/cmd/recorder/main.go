// SPDX-License-Identifier: Apache-2.0

// Command recorder serves the witness of the end-to-end tests: workloads speak to it on one port, tests ask it on another.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/cryopod/cryopod/test/e2e/recorder"
)

type options struct {
	listen, query, log string
	places             []recorder.Place
}

func (o *options) register(fs *flag.FlagSet) {
	fs.StringVar(&o.listen, "listen", ":7070", "address that workloads send their steps to")
	fs.StringVar(&o.query, "query", ":7071", "address that answers HTTP requests for the log")
	fs.StringVar(&o.log, "log", "recorder.log", "file that the steps are appended to")
	fs.Func("place", "RANGE=NODE: pods of that node have addresses of that range; may be repeated", o.addPlace)
}

func (o *options) addPlace(s string) error {
	text, node, ok := strings.Cut(s, "=")
	if !ok || node == "" {
		return fmt.Errorf("parsing %q: want RANGE=NODE", s)
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return fmt.Errorf("parsing %q: %w", s, err)
	}
	o.places = append(o.places, recorder.Place{Range: prefix, Node: node})
	return nil
}

func main() {
	var o options
	o.register(flag.CommandLine)
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "recorder:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	server, err := recorder.Open(o.log, o.places)
	if err != nil {
		return err
	}
	defer server.Close()
	steps, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listening for steps: %w", err)
	}
	queries, err := net.Listen("tcp", o.query)
	if err != nil {
		return fmt.Errorf("listening for queries: %w", err)
	}
	fmt.Printf("recorder %d: recording steps from %s, answering on %s\n", os.Getpid(), steps.Addr(), queries.Addr())
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(steps) }()
	answers := http.Server{Handler: server, ReadHeaderTimeout: 5 * time.Second}
	go func() { failed <- answers.Serve(queries) }()
	return <-failed
}
