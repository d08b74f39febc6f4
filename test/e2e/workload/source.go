// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Counter counts in the process's own memory.
type Counter struct {
	steps int64
	nonce string
}

// Next counts one further, once for each nonce.
func (c *Counter) Next(_ context.Context, nonce string) (int64, error) {
	if c.nonce != nonce {
		c.steps++
		c.nonce = nonce
	}
	return c.steps, nil
}

// Redis counts in a Redis server: the step is what the server says after the increment.
type Redis struct {
	// Address is the server's host and port.
	Address string

	conn    net.Conn
	answers *bufio.Reader
}

// increment adds one unless the last increment bore the same nonce: its answer was lost then, not the increment.
const increment = `if redis.call('GET', 'nonce') ~= ARGV[1] then redis.call('SET', 'nonce', ARGV[1]) redis.call('INCR', 'steps') end ` +
	`return tonumber(redis.call('GET', 'steps'))`

// Next increments the server's counter, once for each nonce.
func (r *Redis) Next(ctx context.Context, nonce string) (int64, error) {
	step, err := r.try(ctx, nonce)
	if err != nil && r.conn != nil {
		_ = r.conn.Close()
		r.conn = nil
	}
	return step, err
}

func (r *Redis) try(ctx context.Context, nonce string) (int64, error) {
	if r.conn == nil {
		dialer := net.Dialer{Timeout: ioTimeout}
		conn, err := dialer.DialContext(ctx, "tcp", r.Address)
		if err != nil {
			return 0, fmt.Errorf("connecting to redis: %w", err)
		}
		r.conn, r.answers = conn, bufio.NewReader(conn)
	}
	if err := r.conn.SetDeadline(time.Now().Add(ioTimeout)); err != nil {
		return 0, fmt.Errorf("incrementing in redis: %w", err)
	}
	if _, err := io.WriteString(r.conn, redisCommand("EVAL", increment, "0", nonce)); err != nil {
		return 0, fmt.Errorf("incrementing in redis: %w", err)
	}
	answer, err := r.answers.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("incrementing in redis: %w", err)
	}
	number, isNumber := strings.CutPrefix(strings.TrimSpace(answer), ":")
	if !isNumber {
		return 0, fmt.Errorf("incrementing in redis: answer %q", answer)
	}
	return strconv.ParseInt(number, 10, 64)
}

// redisCommand is a command in Redis's protocol (RESP2): an array of bulk strings.
func redisCommand(words ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b.String()
}

// Nginx counts its own steps, and sees to it that the number of requests that nginx has served, which its workers share in memory,
// grows with each of them.
type Nginx struct {
	Counter
	// URL is that of nginx's stub_status page.
	URL string

	client http.Client
	served int64
}

var servedRequests = regexp.MustCompile(`server accepts handled requests\s+\d+ \d+ (\d+)`)

// Next asks nginx for its page and counts one further, once for each nonce.
func (n *Nginx) Next(ctx context.Context, nonce string) (int64, error) {
	served, err := n.ask(ctx)
	if err != nil {
		return 0, err
	}
	if served <= n.served {
		return 0, fmt.Errorf("%w: nginx has served %d requests, and %d before that", ErrFault, served, n.served)
	}
	n.served = served
	return n.Counter.Next(ctx, nonce)
}

func (n *Nginx) ask(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL, nil)
	if err != nil {
		return 0, fmt.Errorf("asking nginx: %w", err)
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("asking nginx: %w", err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return 0, fmt.Errorf("asking nginx: %w", err)
	}
	match := servedRequests.FindSubmatch(page)
	if match == nil {
		return 0, fmt.Errorf("asking nginx: %s: no count of requests in %q", resp.Status, page)
	}
	return strconv.ParseInt(string(match[1]), 10, 64)
}
