// SPDX-License-Identifier: Apache-2.0

package recorder

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"
)

const maxLine = 64 << 10

// Server records messages. It is safe for concurrent use.
type Server struct {
	places []Place

	mu      sync.Mutex
	log     io.WriteCloser
	entries []Entry
}

// Open returns a Server that goes on with the log at path, which is made when it does not exist. An entry is written to the log before
// it is acknowledged: it outlives the recorder's death, though not the machine's.
func Open(path string, places []Place) (*Server, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening recorder log %q: %w", path, err)
	}
	entries, err := readLog(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading recorder log %q: %w", path, err), f.Close())
	}
	return &Server{places: places, log: f, entries: entries}, nil
}

func readLog(r io.Reader) ([]Entry, error) {
	var entries []Entry
	for d := json.NewDecoder(r); ; {
		var e Entry
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return entries, nil
		case err != nil:
			return nil, err
		}
		entries = append(entries, e)
	}
}

// Close closes the log. No message may be under way.
func (s *Server) Close() error {
	return s.log.Close()
}

// Serve accepts workloads on l until l is closed.
func (s *Server) Serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting workloads on %q: %w", l.Addr(), err)
		}
		go s.converse(conn)
	}
}

func (s *Server) converse(conn net.Conn) {
	defer conn.Close()
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var m Message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			fmt.Fprintf(conn, "error %v\n", err)
			return
		}
		if err := s.Record(m, peer.Addr().Unmap()); err != nil {
			fmt.Fprintf(conn, "error %v\n", err)
			return
		}
		if _, err := fmt.Fprintf(conn, "ok %s\n", m.Nonce); err != nil {
			return
		}
	}
}

// Record puts m, which came from peer, into the log. It returns once the entry is written.
func (s *Server) Record(m Message, peer netip.Addr) error {
	if m.Workload == "" || m.Nonce == "" || (m.Step < 1 && m.Fault == "") {
		return fmt.Errorf("recording a message of %q: it needs a workload, a nonce, and a step from 1 or a fault", m.Workload)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := Entry{
		Message:  m,
		Sequence: int64(len(s.entries)) + 1,
		Peer:     peer.String(),
		Node:     nodeOf(s.places, peer),
		Time:     time.Now().UTC(),
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding step %d of %q: %w", m.Step, m.Workload, err)
	}
	if _, err := s.log.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("recording step %d of %q: %w", m.Step, m.Workload, err)
	}
	s.entries = append(s.entries, e)
	return nil
}

// Entries are those of a workload that arrived after the one numbered after, in order.
func (s *Server) Entries(workload string, after int64) []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []Entry{}
	for _, e := range s.entries[min(max(after, 0), int64(len(s.entries))):] {
		if e.Workload == workload {
			found = append(found, e)
		}
	}
	return found
}

// ServeHTTP answers GET /entries?workload=NAME&after=SEQUENCE with a JSON array.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/entries" {
		http.NotFound(w, r)
		return
	}
	after, err := strconv.ParseInt(r.FormValue("after"), 10, 64)
	if err != nil {
		http.Error(w, fmt.Sprintf("parsing after=%q: want a number", r.FormValue("after")), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// The status line is out by now: a reader that went away is all that can be wrong.
	_ = json.NewEncoder(w).Encode(s.Entries(r.FormValue("workload"), after))
}
