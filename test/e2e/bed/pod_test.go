// SPDX-License-Identifier: Apache-2.0

package bed_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cryopod/cryopod/test/e2e/bed"
)

func TestUntilTellsWhatWasWrongBeforeTheTimeWasOver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	reason := errors.New("pod does not run")
	asked := 0
	err := bed.Until(ctx, func(ctx context.Context) error {
		if asked++; asked == 1 {
			return reason
		}
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, reason) || !errors.Is(err, context.Canceled) {
		t.Errorf("Until = %v, want the context's error and %q", err, reason)
	}
}
