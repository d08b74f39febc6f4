// SPDX-License-Identifier: Apache-2.0

package install

// What the tests reach.
var (
	Kustomization = kustomization
	ParseDigests  = parseDigests
)
