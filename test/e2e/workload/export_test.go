// SPDX-License-Identifier: Apache-2.0

package workload

// Corrupt changes one byte, as lost memory would.
func (b *Ballast) Corrupt(at int) {
	b.data[at] ^= 0xff
}
