// SPDX-License-Identifier: Apache-2.0

package bed

// What the tests reach.
var SumMetric = sumMetric
