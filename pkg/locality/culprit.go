// SPDX-License-Identifier: Apache-2.0

package locality

import (
	stdjson "encoding/json"
	"maps"
	"slices"

	"sigs.k8s.io/json"
)

// culprit is the path of the field that keeps the args from being decoded: quantities and durations say what is wrong, not where. It is empty where
// no single field does.
func culprit(data []byte) string {
	return culpritIn(data, func(fields []byte) []byte { return fields })
}

// culpritIn looks in an object that around makes whole args of.
func culpritIn(data []byte, around func([]byte) []byte) string {
	var fields map[string]stdjson.RawMessage
	if err := stdjson.Unmarshal(data, &fields); err != nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		only := func(value []byte) []byte {
			// A name and what was decoded above are JSON.
			object, _ := stdjson.Marshal(map[string]stdjson.RawMessage{name: value})
			return around(object)
		}
		var alone CheckpointLocalityArgs
		if _, err := json.UnmarshalStrict(only(fields[name]), &alone); err == nil {
			continue
		}
		if inner := culpritIn(fields[name], only); inner != "" {
			return name + "." + inner
		}
		return name
	}
	return ""
}
