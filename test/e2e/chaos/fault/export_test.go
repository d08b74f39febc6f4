// SPDX-License-Identifier: Apache-2.0

package fault

// What the tests reach.
var (
	ClockOf    = clockOf
	WriteClock = writeClock
	Skewed     = skewed
	ReadMemory = readMemory
	ErrBusy    = errBusy
)

// Proxy is a proxy.
type Proxy = proxy

// Serve is its serve.
var Serve = (*proxy).serve
