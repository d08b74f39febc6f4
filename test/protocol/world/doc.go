// SPDX-License-Identifier: Apache-2.0

// Package world is everything around Cryopod that matters to its protocol, small and in memory, with Cryopod's own code in it. One World is one
// schedule (see package protocol).
//
// Who watches from outside is Memory: each cold start begins one, and each process that is restored goes on with that of its checkpoint. A
// memory that two processes have at a time, and a step that is done twice, are seen there, whatever the objects say.
package world
