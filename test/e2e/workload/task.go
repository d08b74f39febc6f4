// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// StateFile keeps the last step in a file that outlives the pod, and sees to it that nobody else changed it.
type StateFile struct {
	Path string

	last int64
}

// Do compares the file with the last step and replaces it by this one.
func (s *StateFile) Do(step int64) error {
	content, err := os.ReadFile(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.last == 0:
	case err != nil:
		return fmt.Errorf("reading the last step: %w", err)
	case s.last != 0 && string(content) != strconv.FormatInt(s.last, 10):
		return fmt.Errorf("reading the last step: file has %q, want %d", content, s.last)
	}
	next := s.Path + ".next"
	if err := os.WriteFile(next, strconv.AppendInt(nil, step, 10), 0o644); err != nil {
		return fmt.Errorf("writing step %d: %w", step, err)
	}
	if err := os.Rename(next, s.Path); err != nil {
		return fmt.Errorf("writing step %d: %w", step, err)
	}
	s.last = step
	return nil
}

// OpenFile holds a file open and appends a line at each step.
type OpenFile struct {
	file  *os.File
	bytes int64
}

// NewOpenFile makes the file.
func NewOpenFile(path string) (*OpenFile, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("opening a file to keep open: %w", err)
	}
	return &OpenFile{file: f}, nil
}

// Do sees to it that all that was written before is there, and appends step.
func (o *OpenFile) Do(step int64) error {
	info, err := o.file.Stat()
	if err != nil {
		return fmt.Errorf("appending step %d: %w", step, err)
	}
	if info.Size() != o.bytes {
		return fmt.Errorf("appending step %d: file %q has %d bytes, want %d", step, o.file.Name(), info.Size(), o.bytes)
	}
	n, err := fmt.Fprintln(o.file, step)
	if err != nil {
		return fmt.Errorf("appending step %d: %w", step, err)
	}
	o.bytes += int64(n)
	return nil
}
