// SPDX-License-Identifier: Apache-2.0

// Package source finds the repository that a test or tool belongs to, and the Go that builds from it.
package source

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// rootModule begins the go.mod at the root of the repository.
const rootModule = "module github.com/cryopod/cryopod\n"

// defaultGo is where Go's own archive is unpacked to, which sudo's path often lacks.
const defaultGo = "/usr/local/go/bin/go"

// Root finds the repository: above the working directory, else where this very file was compiled.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the working directory: %w", err)
	}
	starts := []string{dir}
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		starts = append(starts, filepath.Dir(file))
	}
	for _, start := range starts {
		if root, ok := moduleAbove(start); ok {
			return root, nil
		}
	}
	return "", fmt.Errorf("finding Cryopod's source above %q: run this inside a checkout", dir)
}

func moduleAbove(dir string) (string, bool) {
	for {
		content, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(content, []byte(rootModule)) {
			return dir, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}

// Go is the path of the go command to build with, "" when there is none.
func Go() string {
	if path, err := exec.LookPath("go"); err == nil {
		return path
	}
	if path, err := exec.LookPath(defaultGo); err == nil {
		return path
	}
	return ""
}

// GoVersion says which Go that is. It reads the file that every Go tree has, as asking the command takes long.
func GoVersion() string {
	path, err := filepath.EvalSymlinks(Go())
	if err != nil {
		return ""
	}
	version, err := os.ReadFile(filepath.Join(filepath.Dir(path), "..", "VERSION"))
	if err != nil {
		return runtime.Version()
	}
	line, _, _ := bytes.Cut(version, []byte("\n"))
	return string(line)
}
