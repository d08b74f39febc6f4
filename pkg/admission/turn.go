// SPDX-License-Identifier: Apache-2.0

package admission

import "context"

// maxTurns is how many requests that pods go one replica works on at a time, those that are merely held not counted. To work on one takes many
// times the memory that holding it takes, and calls of the API server: a crowd that comes at once costs less one after the other, and no more time.
const maxTurns = 32

// turn is a request's right to be worked on. It is for one goroutine.
type turn struct {
	all  chan struct{}
	have bool
}

// take waits for a turn, and returns false when the request has ended before there is one.
func (t *turn) take(ctx context.Context) bool {
	if t.have {
		return true
	}
	select {
	case t.all <- struct{}{}:
		t.have = true
		return true
	case <-ctx.Done():
		return false
	}
}

// give lets others work. It does nothing where there is nothing to give.
func (t *turn) give() {
	if t.have {
		<-t.all
		t.have = false
	}
}
