// SPDX-License-Identifier: Apache-2.0

package workload_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cryopod/cryopod/test/e2e/workload"
)

func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	s := workload.StateFile{Path: path}
	for step := int64(1); step <= 3; step++ {
		if err := s.Do(step); err != nil {
			t.Fatal(err)
		}
	}
	cold := workload.StateFile{Path: path}
	if err := cold.Do(1); err != nil {
		t.Errorf("a fresh process over an old file: %v", err)
	}
	if err := s.Do(4); err == nil {
		t.Error("the file was changed by another process, and Do saw nothing")
	}
}

func TestStateFileGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	s := workload.StateFile{Path: path}
	if err := s.Do(1); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Do(2); err == nil {
		t.Error("the file was removed, and Do saw nothing")
	}
}

func TestOpenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "open")
	o, err := workload.NewOpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for step := int64(1); step <= 3; step++ {
		if err := o.Do(step); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := o.Do(4); err == nil {
		t.Error("the file was truncated, and Do saw nothing")
	}
}
