// SPDX-License-Identifier: Apache-2.0

package cache_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
)

func TestNewKeyTellsDivisionsApart(t *testing.T) {
	keys := map[cache.Key][]string{}
	for _, parts := range [][]string{{}, {""}, {"ab"}, {"a", "b"}, {"b", "a"}, {"a", "", "b"}} {
		key := cache.NewKey(parts...)
		if other, ok := keys[key]; ok {
			t.Errorf("%q and %q have the same key", parts, other)
		}
		keys[key] = parts
	}
	if first, second := cache.NewKey("a", "b"), cache.NewKey("a", "b"); first != second {
		t.Error("the same inputs have two keys")
	}
}

func TestTreeKey(t *testing.T) {
	tests := map[string]struct {
		change func(dir string) error
		same   bool
	}{
		"nothing":      {change: func(string) error { return nil }, same: true},
		"a new file":   {change: func(dir string) error { return os.WriteFile(filepath.Join(dir, "new"), nil, 0o644) }},
		"content":      {change: func(dir string) error { return os.WriteFile(filepath.Join(dir, "go.sum"), []byte("2"), 0o644) }},
		"another name": {change: func(dir string) error { return os.Rename(filepath.Join(dir, "go.sum"), filepath.Join(dir, "go.mod")) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "go.sum"), []byte("1"), 0o644); err != nil {
				t.Fatal(err)
			}
			before, err := cache.TreeKey(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.change(dir); err != nil {
				t.Fatal(err)
			}
			after, err := cache.TreeKey(dir)
			if err != nil {
				t.Fatal(err)
			}
			if (before == after) != test.same {
				t.Errorf("key was %s and is %s", before, after)
			}
		})
	}
	if _, err := cache.TreeKey(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a folder that is not there has a key")
	}
}
