// SPDX-License-Identifier: Apache-2.0

// Package criuconf sees to the options of CRIU on a node. runc reads them from a file for every dump and every restore; by the
// CRI alone none of them can be set, and without tcp-close one established connection makes a dump fail.
package criuconf

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// DefaultPath is the file that runc hands to CRIU unless a container's annotation org.criu.config names another
// (runc libcontainer/criu_linux.go).
const DefaultPath = "/etc/criu/runc.conf"

// header is the first line of a file of ours; a file that does not begin with it is an administrator's.
const header = "# Managed by cryopod-agent."

// content holds the options and why each is there. link-remap and tcp-established are left out on purpose: CRIU takes the links
// away again after a dump that leaves the process running, so the restore could not find them; and a moved pod has another IP address.
const content = header + ` Changes are overwritten; delete this line to manage the file yourself.
# After Cryopod was uninstalled the file may be removed.

# Dump: leave established TCP connections out. Restore: they are closed, and peers connect anew.
tcp-close
# Dump: connections that are still being set up do not make it fail; their clients try again.
skip-in-flight
# No connection is kept, so the network needs no lock meanwhile; the one of a restore that fails would stay on in the pod's network
# and cut the cold start off.
network-lock skip
# Locks on files are taken again at restore; by then the source holds them no more.
file-locks
# Datagram sockets whose peer is outside of the container (syslog) are connected again by their path.
ext-unix-sk
# Deleted files that are still open travel with the checkpoint up to this size each.
ghost-limit 256M
`

// Owner tells who wrote the node's file, in the words of NodeProfile.status.criuConfig.
type Owner string

// The owners of the file.
const (
	Managed       Owner = "Managed"
	Administrator Owner = "Administrator"
	Missing       Owner = "Missing"
)

// State is what Ensure found and did.
type State struct {
	// Owner is who wrote the file as it now is.
	Owner Owner
	// Message tells in one sentence what will not work; empty when all will.
	Message string
	// Changed is true when Ensure wrote the file.
	Changed bool
}

// Ensure writes the options to path unless an administrator's file is there, which is left alone and judged. The directory is
// made when it is missing. An error comes with Owner Missing.
func Ensure(path string) (State, error) {
	have, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return State{Owner: Missing}, fmt.Errorf("reading CRIU options %q: %w", path, err)
	case string(have) == content:
		return State{Owner: Managed}, nil
	case !strings.HasPrefix(string(have), header):
		return State{Owner: Administrator, Message: judge(path, string(have))}, nil
	}
	if err := replace(path, content); err != nil {
		return State{Owner: Missing}, err
	}
	return State{Owner: Managed, Changed: true}, nil
}

// Options returns the options that a CRIU configuration file sets: the first word of each line, comments aside.
func Options(text string) map[string]bool {
	options := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, "\t")
		name, _, _ = strings.Cut(name, "=")
		if name = strings.TrimLeft(name, "-"); name != "" {
			options[name] = true
		}
	}
	return options
}

func judge(path, text string) string {
	have := Options(text)
	var lacks []string
	if !have["tcp-close"] && !have["tcp-established"] {
		lacks = append(lacks, "tcp-close (pods with an established TCP connection can't be saved)")
	}
	if have["tcp-established"] && !have["tcp-close"] {
		lacks = append(lacks, "tcp-close (tcp-established can't restore connections on another node)")
	}
	if !have["file-locks"] {
		lacks = append(lacks, "file-locks (pods that hold a lock on a file can't be saved)")
	}
	if len(lacks) == 0 {
		return ""
	}
	return fmt.Sprintf("%s is managed by an administrator and lacks %s", path, strings.Join(lacks, " and "))
}

// replace writes the file beside its place and renames it, so that no dump ever reads half of it.
func replace(path, text string) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the directory of %q: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".cryopod-*")
	if err != nil {
		return fmt.Errorf("writing CRIU options %q: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing CRIU options %q: %w", path, err)
	}
	return nil
}
