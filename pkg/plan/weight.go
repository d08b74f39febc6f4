// SPDX-License-Identifier: Apache-2.0

package plan

import "math"

// DefaultValue is the value of a pod whose owner gave none.
const DefaultValue = 100

// tier is the priority at which a pod is worth twice as much as one of priority 0.
const tier = 1000

// Weight is what saving a pod is worth beside others: its value, times 1 + log2(1 + priority/1000). A pod of priority 1,000 counts twice,
// one of a million eleven times, the system's own (2,000,000,000) some 22 times as much as one of priority 0 with the same value; a
// negative priority divides by as much. It grows strictly with both. A value of 0 or less means DefaultValue.
func Weight(value int64, priority int32) float64 {
	if value <= 0 {
		value = DefaultValue
	}
	factor := 1 + math.Log2(1+math.Abs(float64(priority))/tier)
	if priority < 0 {
		factor = 1 / factor
	}
	return float64(value) * factor
}
