// SPDX-License-Identifier: Apache-2.0

package toolchain

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

// sourceRoot finds the repository, whose hack/tools pins every tool: above the working directory, else where this very
// file was compiled.
func sourceRoot() (string, error) {
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

// goCommand is the go command to build with, "" when there is none.
func goCommand() string {
	if path, err := exec.LookPath("go"); err == nil {
		return path
	}
	if path, err := exec.LookPath(defaultGo); err == nil {
		return path
	}
	return ""
}

// goVersion says which Go builds the tools. It reads the file that every Go tree has, as asking the command takes long.
func goVersion() string {
	path, err := filepath.EvalSymlinks(goCommand())
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
