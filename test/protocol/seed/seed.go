// SPDX-License-Identifier: Apache-2.0

// Package seed tells production code, where a bug was patched into it for a test, whether the bug is on. Nothing but such patches imports it.
package seed

import "sync/atomic"

var present atomic.Value

// Plant turns the bug of that name on, and all others off; the empty name turns all off.
func Plant(name string) { present.Store(name) }

// Is tells whether the bug of that name is on.
func Is(name string) bool { return present.Load() == name }
