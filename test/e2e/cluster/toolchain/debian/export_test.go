// SPDX-License-Identifier: Apache-2.0

package debian

// MirrorOf is mirrorOf for tests.
var MirrorOf = mirrorOf
