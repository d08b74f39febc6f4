// SPDX-License-Identifier: Apache-2.0

package accuracy

import (
	"bufio"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// words is what the scheduler's log says of a pod.
type words struct {
	node               string
	predicted, told    float64
	pull, restored     int64
	foretold, recalled bool
}

// pair is a key and its value in a line of klog's text format.
var pair = regexp.MustCompile(`(\w+)=("[^"]*"|\S+)`)

// said finds in the log what the plugin said of a pod; name is namespace/name. A pod that was scheduled again is what was said last.
func said(log, name string) (words, error) {
	var w words
	for lines := bufio.NewScanner(strings.NewReader(log)); lines.Scan(); {
		line := lines.Text()
		predicted, started := strings.Contains(line, `"Predicted"`), strings.Contains(line, `"Started"`)
		if !predicted && !started {
			continue
		}
		values := map[string]string{}
		for _, m := range pair.FindAllStringSubmatch(line, -1) {
			values[m[1]] = strings.Trim(m[2], `"`)
		}
		if values["pod"] != name {
			continue
		}
		if err := w.take(values, predicted); err != nil {
			return w, fmt.Errorf("reading %q: %w", line, err)
		}
	}
	if !w.foretold {
		return w, fmt.Errorf("the scheduler's log has no prediction for pod %q", name)
	}
	return w, nil
}

func (w *words) take(values map[string]string, predicted bool) (err error) {
	if !predicted {
		w.recalled = true
		w.told, err = strconv.ParseFloat(values["actual"], 64)
		return err
	}
	*w = words{node: values["node"], foretold: true}
	if w.predicted, err = strconv.ParseFloat(values["seconds"], 64); err != nil {
		return err
	}
	if w.pull, err = strconv.ParseInt(values["pullBytes"], 10, 64); err != nil {
		return err
	}
	w.restored, err = strconv.ParseInt(values["restoreBytes"], 10, 64)
	return err
}
