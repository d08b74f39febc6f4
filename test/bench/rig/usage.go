// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process takes at a moment, in bytes and seconds.
type Usage struct {
	// Resident is what of it is in memory, Peak the most that ever was.
	Resident, Peak float64
	// CPU is the time that it has had a core so far.
	CPU time.Duration
}

// ticks is the unit of times in /proc (sysconf(_SC_CLK_TCK), the same on all of Linux's common architectures).
const ticks = 100

// ReadUsage reads it from /proc.
func ReadUsage(pid int) (Usage, error) {
	var u Usage
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("reading what process %d takes: %w", pid, err)
	}
	for line := range bytes.Lines(status) {
		name, value, _ := strings.Cut(string(line), ":")
		kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch {
		case err != nil:
		case name == "VmRSS":
			u.Resident = kib * 1024
		case name == "VmHWM":
			u.Peak = kib * 1024
		}
	}
	fields, err := statFields(pid)
	if err != nil {
		return u, err
	}
	for _, field := range fields[11:13] { // utime and stime (proc(5)), counted from the state on
		n, _ := strconv.ParseInt(field, 10, 64)
		u.CPU += time.Duration(n) * time.Second / ticks
	}
	return u, nil
}

// statFields are the fields of /proc/PID/stat from the state on.
func statFields(pid int) ([]string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, fmt.Errorf("reading what process %d takes: %w", pid, err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return nil, fmt.Errorf("reading what process %d takes: %q", pid, stat)
	}
	return fields, nil
}

// Child is the process of that name that this one started itself; 0 when there is none.
func Child(name string) int {
	all, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, path := range all {
		comm, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if fields, err := statFields(pid); err == nil && fields[1] == strconv.Itoa(os.Getpid()) {
			return pid
		}
	}
	return 0
}

// ReadMetrics reads a program's metrics.
func ReadMetrics(ctx context.Context, url string) (Metrics, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("asking for metrics: %w", err)
	}
	response, err := probes.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking for metrics: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	return ParseMetrics(string(text)), nil
}
