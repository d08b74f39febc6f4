// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"fmt"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Model are the constants of the predicted time until a pod runs on a node. Rates are in bytes a second; what is pulled counts as it is in the
// registry, compressed.
type Model struct {
	// PullBytesPerSecond is the bandwidth of a node that has measured none. Default 64Mi.
	PullBytesPerSecond *resource.Quantity `json:"pullBytesPerSecond,omitempty"`
	// UnpackBytesPerSecond is how fast pulled layers are unpacked. Default 128Mi.
	UnpackBytesPerSecond *resource.Quantity `json:"unpackBytesPerSecond,omitempty"`
	// RestoreBytesPerSecond is how fast a checkpoint, uncompressed, becomes a process. Default 512Mi.
	RestoreBytesPerSecond *resource.Quantity `json:"restoreBytesPerSecond,omitempty"`
	// StartTime is what a pod takes beside, and each that starts on the node before it. Default 1s.
	StartTime *metav1.Duration `json:"startTime,omitempty"`
	// TrafficWeight is how many times the bytes count that the pod itself adds to what its node pulls, at PullBytesPerSecond and beside the time that it
	// waits for them: whoever starts there next waits for them too, and the registry's traffic costs. Default 5; 0 is time alone.
	TrafficWeight *int32 `json:"trafficWeight,omitempty"`
	// BalanceTime is what an uneven load counts beside the time: it times by how much the pod makes the sum of the squares of the nodes' loads' distances from
	// their mean larger, loads being the shares of their CPU and memory that are requested. Default 13m; 0 leaves the load to other plugins.
	BalanceTime *metav1.Duration `json:"balanceTime,omitempty"`
	// FullScale is the difference that is worth nine tenths of the range of scores; those beyond it share the last tenth. Default 20s.
	FullScale *metav1.Duration `json:"fullScale,omitempty"`
}

// The bounds of the model's constants. A rate below a kibibyte or a scale below a millisecond is a mistake of the unit.
const (
	minRate          = 1 << 10
	maxStartTime     = time.Hour
	maxTrafficWeight = 100
	maxBalanceTime   = 24 * time.Hour
	minFullScale     = time.Millisecond
	maxFullScale     = time.Hour
)

func defaultTo[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func (m *Model) setDefaults() {
	defaultTo(&m.PullBytesPerSecond, resource.MustParse("64Mi"))
	defaultTo(&m.UnpackBytesPerSecond, resource.MustParse("128Mi"))
	defaultTo(&m.RestoreBytesPerSecond, resource.MustParse("512Mi"))
	defaultTo(&m.StartTime, metav1.Duration{Duration: time.Second})
	defaultTo(&m.TrafficWeight, 5)
	defaultTo(&m.BalanceTime, metav1.Duration{Duration: 13 * time.Minute})
	defaultTo(&m.FullScale, metav1.Duration{Duration: 20 * time.Second})
}

func (m *Model) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, rate := range []struct {
		name  string
		value *resource.Quantity
	}{
		{"pullBytesPerSecond", m.PullBytesPerSecond},
		{"unpackBytesPerSecond", m.UnpackBytesPerSecond},
		{"restoreBytesPerSecond", m.RestoreBytesPerSecond},
	} {
		if rate.value.Value() < minRate {
			errs = append(errs, field.Invalid(path.Child(rate.name), rate.value.String(), fmt.Sprintf("must be at least %d bytes a second", minRate)))
		}
	}
	if d := m.StartTime.Duration; d < 0 || d > maxStartTime {
		errs = append(errs, field.Invalid(path.Child("startTime"), d.String(), fmt.Sprintf("must be from 0s to %s", maxStartTime)))
	}
	if w := *m.TrafficWeight; w < 0 || w > maxTrafficWeight {
		errs = append(errs, field.Invalid(path.Child("trafficWeight"), w, fmt.Sprintf("must be from 0 to %d", maxTrafficWeight)))
	}
	if d := m.BalanceTime.Duration; d < 0 || d > maxBalanceTime {
		errs = append(errs, field.Invalid(path.Child("balanceTime"), d.String(), fmt.Sprintf("must be from 0s to %s", maxBalanceTime)))
	}
	if d := m.FullScale.Duration; d < minFullScale || d > maxFullScale {
		errs = append(errs, field.Invalid(path.Child("fullScale"), d.String(), fmt.Sprintf("must be from %s to %s", minFullScale, maxFullScale)))
	}
	return errs
}

// predictor is a Model as it is reckoned with: in seconds for each byte, and for each pod. To multiply is several times faster than to divide, and each pod is
// reckoned for hundreds of nodes.
type predictor struct {
	pull, unpack, restore, start, traffic float64
}

func newPredictor(m Model) predictor {
	p := predictor{
		pull: 1 / m.PullBytesPerSecond.AsApproximateFloat64(), unpack: 1 / m.UnpackBytesPerSecond.AsApproximateFloat64(),
		restore: 1 / m.RestoreBytesPerSecond.AsApproximateFloat64(), start: m.StartTime.Seconds(),
	}
	p.traffic = float64(*m.TrafficWeight) * p.pull
	return p
}

// load is what a node has to do until a pod runs there.
type load struct {
	// pull are the bytes to fetch and unpack: a kubelet pulls one image after the other, as most are configured, or all of them share the line. Either
	// way the last byte comes when all have come.
	pull int64
	// own are those of them that nobody would fetch but for the pod that is to be placed.
	own int64
	// restore are the bytes of checkpoints to restore.
	restore int64
	// pods are how many start, this one included.
	pods int
}

// seconds predicts how long a node takes for it; measured are the seconds that it takes to pull a byte, 0 where that is not known.
func (p predictor) seconds(l load, measured float64) float64 {
	pull := p.pull
	if measured > 0 {
		pull = measured
	}
	return float64(l.pull)*(pull+p.unpack) + float64(l.restore)*p.restore + p.start*float64(l.pods)
}

// maxPrice leaves room for one more in 32 bits.
const maxPrice = math.MaxInt32 - 1

// price is what a node is scored by, in milliseconds, maxPrice at most, which are 24 days: the predicted time, and what the pod's own bytes count beside.
func (p predictor) price(l load, measured float64) int64 {
	return int64(min(1000*(p.seconds(l, measured)+p.traffic*float64(l.own))+0.5, maxPrice))
}
