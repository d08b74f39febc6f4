// SPDX-License-Identifier: Apache-2.0

package termination

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
)

// minNotice is the shortest notice within which anything could be saved.
const minNotice = 5 * time.Second

const (
	// voluntarySuffix marks a notice that PodDisruptionBudgets are respected under.
	voluntarySuffix = ":voluntary"
	// drainedSuffix marks one of a node that somebody else drains.
	drainedSuffix = ":drained"
)

// Parse is Defaults as the text changes them: elements separated by commas, KEY=NOTICE, KEY=NOTICE:voluntary and KEY=NOTICE:drained to
// add a taint or to replace one, -KEY to leave one out.
func Parse(text string) (List, error) {
	l, seen := Defaults(), sets.New[string]()
	for element := range strings.SplitSeq(text, ",") {
		element = strings.TrimSpace(element)
		if element == "" {
			continue
		}
		key, err := l.change(element)
		if err != nil {
			return nil, err
		}
		if seen.Has(key) {
			return nil, fmt.Errorf("reading %q: %q is there twice", element, key)
		}
		seen.Insert(key)
	}
	return l, nil
}

func (l *List) change(element string) (key string, err error) {
	if key, leaveOut := strings.CutPrefix(element, "-"); leaveOut {
		if _, known := l.Find(key); !known {
			return "", fmt.Errorf("leaving %q out: it is not in the list; it has %s", key, strings.Join(Defaults().keys(), ", "))
		}
		*l = slices.DeleteFunc(*l, func(t Taint) bool { return t.Key == key })
		return key, nil
	}
	t, err := parseTaint(element)
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(*l, func(have Taint) bool { return have.Key == t.Key }); i >= 0 {
		(*l)[i] = t
	} else {
		*l = append(*l, t)
	}
	return t.Key, nil
}

func parseTaint(element string) (Taint, error) {
	key, text, ok := strings.Cut(element, "=")
	if !ok {
		return Taint{}, fmt.Errorf("reading %q: want KEY=NOTICE, KEY=NOTICE%s, KEY=NOTICE%s or -KEY, such as example.com/going=60s",
			element, voluntarySuffix, drainedSuffix)
	}
	if wrong := validation.IsQualifiedName(key); len(wrong) > 0 {
		return Taint{}, fmt.Errorf("reading %q: %q is no taint's key: %s", element, key, strings.Join(wrong, "; "))
	}
	if key == corev1.TaintNodeOutOfService {
		return Taint{}, fmt.Errorf("reading %q: a node with that taint is gone already, nothing on it can be saved", element)
	}
	text, drained := strings.CutSuffix(text, drainedSuffix)
	voluntary := drained
	if !drained {
		text, voluntary = strings.CutSuffix(text, voluntarySuffix)
	}
	notice, err := time.ParseDuration(text)
	if err != nil || notice < minNotice || notice > MaxNotice {
		return Taint{}, fmt.Errorf("reading %q: %q is no duration from %s to %s, such as 60s", element, text, minNotice, MaxNotice)
	}
	return Taint{Key: key, Notice: notice, Voluntary: voluntary, Drained: drained}, nil
}

func (l List) keys() []string {
	keys := make([]string, len(l))
	for i := range l {
		keys[i] = l[i].Key
	}
	return keys
}
