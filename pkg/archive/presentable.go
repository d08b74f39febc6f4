// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"strings"
	"unicode"
)

const (
	// longWord is the longest word that is taken for one, and longMixed the longest one of letters and digits: tokens, keys and hashes are longer.
	longWord, longMixed = 32, 11
	masked              = "…"
)

// places are the directories that a path may be shown to lie in: which of them it is tells why it can't be saved, and every container has them.
var places = []string{
	"dev/shm", "dev/mqueue", "dev/net", "dev/pts", "dev", "proc", "sys", "tmp", "var/run", "var/lib", "var/log", "var/tmp", "var",
	"run", "etc", "usr", "home", "root", "opt", "mnt", "srv", "media",
}

// Presentable is what of a message by CRIU or a runtime people may see who may see the pod, in events and conditions: one line of at most 300
// bytes, printable, in valid UTF-8, without what a process could have put into it. Of paths only the directory is left that every
// container has, values of variables and whatever looks like a key are masked. Presentable of its own result is the same.
func Presentable(message string) string {
	if len(message) > maxMessage {
		message = message[:maxMessage]
	}
	message = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(message, "?"))
	words := strings.Fields(message)
	for i, w := range words {
		words[i] = mask(w)
	}
	message = strings.TrimRight(strings.Join(words, " "), ". ")
	if len(message) > maxFailure {
		// No word is nearly as long, and half a word might be masked otherwise.
		message = strings.TrimRight(message[:strings.LastIndexByte(message[:maxFailure+1], ' ')], ". ")
	}
	return message
}

// maxMessage is how much of a message is looked at, in bytes.
const maxMessage = 4 << 10

// mask hides a word's core, not what stands around it.
func mask(word string) string {
	const around = "\"'`()[]{}<>.,:;!?"
	core := strings.Trim(word, around)
	if core == "" {
		return word[:min(len(word), longMixed)]
	}
	before, after, _ := strings.Cut(word, core)
	if len(before)+len(after) > longMixed {
		before, after = "", ""
	}
	return before + maskCore(core) + after
}

func maskCore(core string) string {
	if key, value, ok := strings.Cut(core, "="); ok {
		if isNumber(value) && !looksSecret(key) && !strings.Contains(key, "/") {
			return core
		}
		if looksSecret(key) || strings.ContainsAny(key, "/@") {
			return masked
		}
		return key + "=" + masked
	}
	switch {
	case strings.Contains(core, "/"):
		return maskPath(core)
	case strings.Contains(core, "@"), looksSecret(core):
		return masked
	}
	return core
}

func maskPath(path string) string {
	rest := strings.TrimLeft(path, "/")
	for _, place := range places {
		if rest == place || strings.HasPrefix(rest, place+"/") {
			rooted := path[:min(len(path)-len(rest), 1)] + place
			if rest == place {
				return rooted
			}
			return rooted + "/" + masked
		}
	}
	return masked
}

// looksSecret tells whether a word is too long for one, or too long for a mixture of letters and digits.
func looksSecret(word string) bool {
	if len(word) > longWord {
		return true
	}
	return len(word) > longMixed && strings.ContainsFunc(word, unicode.IsLetter) && strings.ContainsFunc(word, unicode.IsDigit)
}

func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	return s != "" && len(s) <= longMixed && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}
