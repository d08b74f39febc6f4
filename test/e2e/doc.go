// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the tests on a real cluster; they need the build tag e2e, root, and a machine that can run one (see
// test/e2e/cluster). CRYOPOD_E2E_CLUSTER=NAME makes them use the cluster of that name, which then stays up.
package e2e
