// SPDX-License-Identifier: Apache-2.0

// Package protocol explores what docs/protocol.md says, with the code that production runs: the agent's reconciler, ledger and rewinder, the
// webhook's handlers, and the controllers. What is around them is a small world (package world): an API server with optimistic
// concurrency, preconditions, graceful deletion and synchronous admission, caches that follow it, nodes with kubelets and containers,
// a registry, and users.
//
// Each call that somebody makes to the outside is a point of the schedule: it takes effect when the schedule says so. The fair schedule takes
// calls in the order in which they come. All others deviate from it at a few points: the call fails; it takes effect and its answer is
// lost; it stalls; its process crashes, is cut off, or has its clock jump; a cache does not see it; a node is cut off. A schedule is the fair
// one with a set of deviations, and with up to so many deviations all there are are run (Explore). Every run is made from the beginning, in a
// bubble of package testing/synctest: its clock makes minutes of no time, and tells for certain when all goroutines wait. So production code runs
// as it is, goroutines, timers and contexts included, and each schedule is always the same.
//
// Schedules that deviate early differ from then on in time, which is part of the state, so that equal states are rare, and none are
// pruned; they are counted, for the report.
//
// Bugs that are planted into production code by patches (Mutants) show that the explorer would find them.
package protocol
