// SPDX-License-Identifier: Apache-2.0

package recorder

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const pollInterval = 100 * time.Millisecond

// Client asks a Server for its log.
type Client struct {
	// Address is the host and port of the server's HTTP side.
	Address string
}

// Entries are those of a workload that arrived after the one numbered after, in order.
func (c Client) Entries(ctx context.Context, workload string, after int64) ([]Entry, error) {
	query := url.Values{"workload": {workload}, "after": {strconv.FormatInt(after, 10)}}
	target := url.URL{Scheme: "http", Host: c.Address, Path: "/entries", RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("asking the recorder for %q: %w", workload, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the recorder for %q: %w", workload, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return nil, fmt.Errorf("asking the recorder for %q: %s: %s", workload, resp.Status, text)
	}
	var entries []Entry
	if err := json.NewDecoder(resp.Body).Decode(&entries); err != nil {
		return nil, fmt.Errorf("decoding the recorder's entries of %q: %w", workload, err)
	}
	return entries, nil
}

// Wait returns all entries of a workload as soon as enough holds for them, or what there is with an error once ctx is done.
func (c Client) Wait(ctx context.Context, workload string, enough func([]Entry) bool) ([]Entry, error) {
	var entries []Entry
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		var after int64
		if len(entries) > 0 {
			after = entries[len(entries)-1].Sequence
		}
		more, err := c.Entries(ctx, workload, after)
		if err != nil {
			return entries, err
		}
		entries = append(entries, more...)
		if enough(entries) {
			return entries, nil
		}
		select {
		case <-ctx.Done():
			return entries, fmt.Errorf("waiting for steps of %q, %s so far: %w", workload, last(entries), ctx.Err())
		case <-ticker.C:
		}
	}
}

func last(entries []Entry) string {
	if len(entries) == 0 {
		return "none"
	}
	e := entries[len(entries)-1]
	return fmt.Sprintf("step %d from %s on %q", e.Step, e.Peer, e.Node)
}

// Reached holds once step, or a later one, was recorded.
func Reached(step int64) func([]Entry) bool {
	return func(entries []Entry) bool {
		for _, e := range entries {
			if e.Fault == "" && e.Step >= step {
				return true
			}
		}
		return false
	}
}
