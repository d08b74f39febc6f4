// SPDX-License-Identifier: Apache-2.0

package chaos

// What the tests reach.
var ParseAnswer = parseAnswer
