// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/cryopod/cryopod/cmd/webhook/app"
)

// held is a handler whose answers wait.
type held struct{ asked, answer chan struct{} }

func (h held) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h.asked <- struct{}{}
	<-h.answer
	_, _ = w.Write([]byte("yes"))
}

// ask sends a request and tells, when it was answered, whether the connection may be used again.
func ask(t *testing.T, url string, reusable chan<- bool) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			close(reusable)
			return
		}
		_ = response.Body.Close()
		reusable <- !response.Close
	}()
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("waited for %s in vain", what)
}

// TestDrain holds a request over the end: it is answered, asked to close its connection, and only then the end comes.
func TestDrain(t *testing.T) {
	const delay = time.Hour
	clk := clocktesting.NewFakeClock(time.Now())
	d := app.NewDrainer(delay, clk)
	handler := held{asked: make(chan struct{}), answer: make(chan struct{})}
	server := httptest.NewServer(d.Wrap(handler))
	defer server.Close()
	reusable := make(chan bool, 2)

	ask(t, server.URL, reusable)
	<-handler.asked
	handler.answer <- struct{}{}
	if !<-reusable {
		t.Error("a connection is closed though nothing ends")
	}

	ask(t, server.URL, reusable)
	<-handler.asked
	ctx, end := context.WithCancel(t.Context())
	later := d.After(ctx)
	if err := d.Ready(); err != nil {
		t.Errorf("before the end: %v", err)
	}
	end()
	await(t, "the replica to be not ready", func() bool { return d.Ready() != nil && clk.HasWaiters() })
	clk.Step(delay)
	await(t, "it to wait for the request", clk.HasWaiters)
	clk.Step(time.Second)
	await(t, "it to wait on for the request", clk.HasWaiters)
	if err := later.Err(); err != nil {
		t.Errorf("the end came before the held request was answered: %v", err)
	}
	handler.answer <- struct{}{}
	if <-reusable {
		t.Error("the API server was not asked to close the connection")
	}
	await(t, "the end", func() bool { clk.Step(time.Second); return later.Err() != nil })
}

// TestDrainGivesUp has a request that is never answered.
func TestDrainGivesUp(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	began := clk.Now()
	d := app.NewDrainer(0, clk)
	handler := held{asked: make(chan struct{}), answer: make(chan struct{})}
	server := httptest.NewServer(d.Wrap(handler))
	defer server.Close()
	reusable := make(chan bool, 1)
	ask(t, server.URL, reusable)
	<-handler.asked
	ctx, end := context.WithCancel(t.Context())
	end()
	later := d.After(ctx)
	await(t, "the end", func() bool { clk.Step(time.Second); return later.Err() != nil })
	if waited := clk.Since(began); waited < 25*time.Second {
		t.Errorf("gave a request up after %s", waited)
	}
	close(handler.answer)
	<-reusable
}
