// SPDX-License-Identifier: Apache-2.0

package accuracy

// Said is said for the tests, with what it found one by one.
func Said(log, name string) (node string, predicted, told float64, pull, restored int64, recalled bool, err error) {
	w, err := said(log, name)
	return w.node, w.predicted, w.told, w.pull, w.restored, w.recalled, err
}
