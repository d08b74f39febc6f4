// SPDX-License-Identifier: Apache-2.0

// Command probe is what the cluster's own tests run in pods: a small server, and a client that says what it sees.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

const (
	accountDir = "/var/run/secrets/kubernetes.io/serviceaccount/"
	usage      = "usage: probe serve ADDRESS | probe get URL"
	timeout    = 10 * time.Second
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New(usage)
	}
	switch args[0] {
	case "serve":
		return serve(args[1])
	case "get":
		return get(args[1])
	default:
		return errors.New(usage)
	}
}

// serve answers every request with the host's name and how many requests there were.
func serve(address string) error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("reading the host name: %w", err)
	}
	fmt.Printf("serving on %s\n", address)
	var count atomic.Int64
	server := &http.Server{Addr: address, ReadHeaderTimeout: timeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s %d\n", host, count.Add(1))
	})}
	return server.ListenAndServe()
}

// get prints what a URL answers. For https it uses the pod's service account.
func get(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("asking %q: %w", url, err)
	}
	client := &http.Client{}
	if strings.HasPrefix(url, "https:") {
		if client.Transport, err = trusted(); err != nil {
			return err
		}
		token, err := os.ReadFile(accountDir + "token")
		if err != nil {
			return fmt.Errorf("reading the service account's token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+string(token))
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("asking %q: %w", url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("asking %q: %s", url, resp.Status)
	}
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return fmt.Errorf("reading the answer of %q: %w", url, err)
	}
	return nil
}

func trusted() (http.RoundTripper, error) {
	ca, err := os.ReadFile(accountDir + "ca.crt")
	if err != nil {
		return nil, fmt.Errorf("reading the service account's authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("reading the service account's authority: no certificate")
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}, nil
}
