// SPDX-License-Identifier: Apache-2.0

package selftest

// For the fuzz targets.
var (
	VersionIn      = versionIn
	ExplainDump    = explainDump
	ExplainRestore = explainRestore
)

// ParseMemory reads a process's state and writes it again.
func ParseMemory(text string) (string, error) {
	m, err := parseMemory(text)
	return m.String(), err
}
