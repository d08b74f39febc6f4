// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/webhook/load"
	"github.com/cryopod/cryopod/test/bench/webhook/program"
	"github.com/cryopod/cryopod/test/e2e/report"
)

// aim is that of the slowest of a hundred answers, in milliseconds.
const aim = 5

// straight is requests at a constant rate straight at the program: all kinds by turns, and each kind alone.
type straight struct {
	program *program.Program
	client  *http.Client
	reviews []review
}

func newStraight(ctx context.Context, b *rig.Bed, p *program.Program) (*straight, error) {
	ca, err := p.CA(ctx)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("reading the CA of the webhook's certificate: it is none")
	}
	all, err := reviews(ctx, b)
	if err != nil {
		return nil, err
	}
	// HTTP/1.1, and as many idle connections, as the API server that calls a Service.
	return &straight{program: p, reviews: all, client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: program.Host, MinVersion: tls.VersionTLS13}, MaxIdleConnsPerHost: 25,
	}}}, nil
}

// call makes the request and tells whether the answer is right.
func (s *straight) call(ctx context.Context, r review) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.program.Address(r.path), bytes.NewReader(r.body))
	if err != nil {
		return fmt.Errorf("making request %q: %w", r.name, err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return fmt.Errorf("making request %q: %w", r.name, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("reading the answer to %q: %w", r.name, err)
	}
	allowed, patches := bytes.Contains(body, []byte(`"allowed":true`)), bytes.Contains(body, []byte(`"patch":`))
	if response.StatusCode != http.StatusOK || !allowed || patches != r.patches {
		return fmt.Errorf("the answer to %q is wrong: %s, %s", r.name, response.Status, body)
	}
	return nil
}

// measure makes requests of those kinds by turns for that long.
func (s *straight) measure(ctx context.Context, kinds []review, rate float64, span time.Duration) (load.Result, error) {
	r, err := load.Run(ctx, load.Plan{Rate: rate, Calls: int(rate * span.Seconds()), Call: func(ctx context.Context, n int) error {
		return s.call(ctx, kinds[n%len(kinds)])
	}})
	if err != nil {
		return r, err
	}
	if len(r.Errors) > 0 {
		return r, fmt.Errorf("%d of %d answers are wrong, the first: %w", len(r.Errors), len(r.Took), r.Errors[0])
	}
	return r, nil
}

// run fills in the metrics.
func (s *straight) run(ctx context.Context, o options, metrics map[string]report.Metric) error {
	say("%.0f requests a second straight at the webhook", o.rate)
	if _, err := s.measure(ctx, s.reviews, o.rate, 2*time.Second); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	var mixed, alone, late series
	for range o.rounds {
		r, err := s.measure(ctx, s.reviews, o.rate, o.span)
		if err != nil {
			return err
		}
		mixed.add("", r.Took)
		late.add("", r.Late)
		for k, kind := range s.reviews {
			var took []time.Duration
			for n := k; n < len(r.Took); n += len(s.reviews) {
				took = append(took, r.Took[n])
			}
			mixed.add(kind.name, took)
		}
		for _, kind := range s.reviews {
			r, err := s.measure(ctx, []review{kind}, o.rate, o.span/2)
			if err != nil {
				return err
			}
			alone.add(kind.name, r.Took)
		}
	}
	mixed.into(metrics, "straight", aim)
	alone.into(metrics, "straight_only", aim)
	metrics["straight_generator_late_p50"], metrics["straight_generator_late_p99"] = median(late[""].p50), median(late[""].p99)
	return nil
}
