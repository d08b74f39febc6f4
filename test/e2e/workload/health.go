// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"fmt"
	"net"
	"net/http"
	"time"
)

// Health answers all HTTP requests at address with 200 until the process ends. It returns once it listens.
func Health(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening for probes: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	return nil
}
