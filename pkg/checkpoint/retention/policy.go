// SPDX-License-Identifier: Apache-2.0

package retention

import (
	"fmt"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

const (
	// DefaultCount is how many PodCheckpoints that are over are kept for each owner.
	DefaultCount = 3
	// DefaultAge is how long a PodCheckpoint that is over is kept, for people to read.
	DefaultAge = time.Hour
	// DefaultSweepEvery is how often the registry is searched for images that no PodCheckpoint names.
	DefaultSweepEvery = time.Hour
)

// Policy bounds what is kept. What is needed is kept in any case.
type Policy struct {
	// Count is how many PodCheckpoints that are over are kept for each owner, the youngest; 0 is no bound.
	Count int
	// Age is how long a PodCheckpoint that is over is kept. It has to be positive.
	Age time.Duration
	// Bytes is how large the images of a namespace may be together, before those of checkpoints that are over are deleted, the oldest
	// first; 0 is no bound.
	Bytes int64
	// KeepImages keeps the images of checkpoints that are over for as long as their PodCheckpoints, for people to analyze. Without it they
	// are deleted as soon as nobody can need them.
	KeepImages bool
}

// Override is the policy with what a namespace's annotations say in its stead, and a sentence for each of them that can't be read; there
// the policy's own bound counts.
func (p Policy) Override(annotations map[string]string) (Policy, []string) {
	var wrong []string
	read := func(key, want string, set func(value string) bool) {
		if value, ok := annotations[key]; ok && !set(value) {
			wrong = append(wrong, fmt.Sprintf("%s=%q is not %s", key, value, want))
		}
	}
	read(v1alpha1.AnnotationRetentionCount, "a whole number of 0 (no bound) or more", func(value string) bool {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return false
		}
		p.Count = n
		return true
	})
	read(v1alpha1.AnnotationRetentionAge, `a positive duration like "90m"`, func(value string) bool {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return false
		}
		p.Age = d
		return true
	})
	read(v1alpha1.AnnotationRetentionBytes, `a quantity like "20Gi", or 0 for no bound`, func(value string) bool {
		bytes, err := ParseBytes(value)
		if err != nil {
			return false
		}
		p.Bytes = bytes
		return true
	})
	return p, wrong
}

// ParseBytes reads a quantity of bytes ("20Gi") of 0 or more.
func ParseBytes(value string) (int64, error) {
	q, err := resource.ParseQuantity(value)
	if err != nil {
		return 0, fmt.Errorf("parsing quantity %q: %w", value, err)
	}
	if q.Sign() < 0 {
		return 0, fmt.Errorf("parsing quantity %q: it is negative", value)
	}
	return q.Value(), nil
}
