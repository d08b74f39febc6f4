// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// usualCause follows where CRIU gave no reason (docs/limits.md).
const usualCause = " (it could not rebuild the process on this node; often a file was open in an emptyDir or in /dev/shm, which don't move)"

// maxReason is the greatest length of a reason in bytes.
const maxReason = 300

var (
	// wrappers are what the kubelet, the CRI and containerd put before the reason itself. What follows the last one counts.
	wrappers = regexp.MustCompile(`(?i)rpc error: code = \w+ desc = ` +
		`|failed to (?:re)?start container "[^"]*": |failed to create container "[^"]*": ` +
		`|failed to (?:create|restore|start) (?:containerd |shim )?task(?: "[^"]*")?: ` +
		`|failed to (?:pull and unpack|pull|resolve|unpack) (?:image|reference) "[^"]*": ` +
		`|failed to prepare \S+ for restore: ` +
		`|back-off pulling image "[^"]*": |errimagepull: |failed to generate container "[^"]*" spec: ` +
		`|OCI runtime (?:create|restore|start) failed: |runc did not terminate successfully: exit status \d+: `)

	// noise are places on the node, which people can't look at from where they read the event.
	noise = regexp.MustCompile(`(?i)(?:,? ?(?:path=|log file:|see) ?/[^\s:]+)|: unknown\b|\b[0-9a-f]{64}\b`)

	// mute is all that runc passes on of CRIU when a restore fails; the cause stays in a log that goes with the container.
	mute = regexp.MustCompile(`criu failed: type \w+ errno \d+$`)

	// baseAway is containerd's try to pull the base image by itself, which it makes without the pod's secrets and its own settings of
	// registries: why that failed tells nothing. The kubelet has tried before and says in an event of its own why it could not.
	baseAway = regexp.MustCompile(`failed to pull checkpoint base image ([^\s@]+)\S*: `)

	spaces = regexp.MustCompile(`\s+`)
)

// Telling is the telling part of a message that the kubelet gives for a container: without the wrapping of the layers that it
// came through, on one line, at most 300 bytes.
func Telling(message string) string {
	text := spaces.ReplaceAllString(strings.Map(plain, strings.ToValidUTF8(message, "?")), " ")
	if base := baseAway.FindStringSubmatch(text); base != nil {
		return shorten("the very image of " + base[1] + " that it was saved on is not on the node and can't be pulled")
	}
	if all := wrappers.FindAllStringIndex(text, -1); len(all) > 0 {
		if rest := text[all[len(all)-1][1]:]; strings.TrimSpace(noise.ReplaceAllString(rest, "")) != "" {
			text = rest
		}
	}
	text = spaces.ReplaceAllString(noise.ReplaceAllString(text, ""), " ")
	text = strings.Trim(text, " :;,")
	if mute.MatchString(text) {
		text += usualCause
	}
	return shorten(text)
}

// plain keeps what can be printed: a terminal would do what the rest says.
func plain(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}

func shorten(text string) string {
	if len(text) <= maxReason {
		return text
	}
	end := maxReason - len("…")
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.TrimRight(text[:end], " ") + "…"
}
