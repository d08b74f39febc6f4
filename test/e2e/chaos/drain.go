// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"regexp"
	"strconv"
	"time"

	"github.com/cryopod/cryopod/test/e2e/chaos/history"
)

// answered is kubectl's own line of an answer to an eviction, at the verbosity 6.
var answered = regexp.MustCompile(`verb="POST" url="[^"]*/pods/([^/"]+)/eviction[^"]*" status="(\d*)[^"]*".* milliseconds=(\d+)`)

// drainLog takes down the evictions of a kubectl drain from what that prints, line by line.
type drainLog struct {
	log *history.Log
}

func (d *drainLog) Write(line []byte) (int, error) {
	if q := parseAnswer(string(line)); q != nil {
		d.log.Add(history.Entry{Request: q})
	}
	return len(line), nil
}

func parseAnswer(line string) *history.Request {
	match := answered.FindStringSubmatch(line)
	if match == nil {
		return nil
	}
	// Both are digits, if any. No answer has no code.
	code, _ := strconv.Atoi(match[2])
	took, _ := strconv.Atoi(match[3])
	return &history.Request{Verb: "evict", Pod: match[1], Code: code, Took: time.Duration(took) * time.Millisecond}
}
