// SPDX-License-Identifier: Apache-2.0

// Package script holds the workloads that are no Go programs, and the configuration of those that are servers. The programs read
// NAME, RECORDER, INTERVAL_MS and MEMORY_MIB from their environment.
package script

import _ "embed"

var (
	// Python runs with "python3 FILE".
	//go:embed stepper.py
	Python string
	// NodeJS runs with "node FILE".
	//go:embed stepper.js
	NodeJS string
	// Java is a class named Stepper.
	//go:embed Stepper.java
	Java string
	// Nginx is the configuration of nginx; its status page is at NginxStatus.
	//go:embed nginx.conf
	Nginx string
)

// NginxStatus is where Nginx's server counts its requests.
const NginxStatus = "http://127.0.0.1:8088/status"
