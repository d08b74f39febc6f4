// SPDX-License-Identifier: Apache-2.0

// Package accuracy compares the seconds that the scheduler plugin predicts until a restored pod runs with those that it takes, on a real
// cluster whose registry is as slow as is wanted.
package accuracy
