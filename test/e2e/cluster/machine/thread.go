// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"os"
	"runtime"
)

// enterNetNS locks the calling goroutine to its thread and moves that thread into ns. The returned function moves it
// back and unlocks it; where that fails, the thread stays locked and dies with the goroutine.
func enterNetNS(ns *os.File) (leave func() error, err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("opening own network namespace: %w", err)
	}
	if err := networkNamespace(int(ns.Fd())); err != nil {
		_ = home.Close()
		runtime.UnlockOSThread()
		return nil, err
	}
	return func() error {
		defer home.Close()
		if err := networkNamespace(int(home.Fd())); err != nil {
			return err
		}
		runtime.UnlockOSThread()
		return nil
	}, nil
}
