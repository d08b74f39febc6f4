// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Key is a short digest of the inputs of an entry.
type Key string

func (k Key) String() string { return string(k) }

// keyLength is how many hexadecimal digits tell the builds of one version apart.
const keyLength = 12

// NewKey returns the key of a list of inputs. The same strings divided otherwise give another key.
func NewKey(parts ...string) Key {
	hash := sha256.New()
	for _, part := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		hash.Write(length[:])
		hash.Write([]byte(part))
	}
	return Key(hex.EncodeToString(hash.Sum(nil))[:keyLength])
}

// TreeKey returns the key of the names and contents of all regular files below dir.
func TreeKey(dir string) (Key, error) {
	var parts []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		parts = append(parts, rel, string(content))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("hashing %q: %w", dir, err)
	}
	return NewKey(parts...), nil
}
