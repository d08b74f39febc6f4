// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroup is a machine's cgroup in one hierarchy.
type Cgroup struct {
	// Path is the cgroup's directory on the host.
	Path string
	// Name is where the hierarchy is mounted below /sys/fs/cgroup in the machine; empty for version 2.
	Name string
	// Options are the mount options of a version 1 hierarchy: its controllers or its name.
	Options string
}

// unified tells whether the cgroup belongs to the version 2 hierarchy.
func (c Cgroup) unified() bool { return c.Name == "" }

// CgroupPath is the path of a cluster's cgroups below the cgroup of whoever started it. Clusters of one name in
// different directories don't meet.
func CgroupPath(group string) string {
	sum := sha256.Sum256([]byte(group))
	return filepath.Join("cryopod-cluster", filepath.Base(group)+"-"+hex.EncodeToString(sum[:4]))
}

// hierarchy is a mounted cgroup hierarchy and the caller's place in it.
type hierarchy struct {
	name    string // empty for version 2
	options string
	mount   string
	own     string // directory of the caller's cgroup
}

// DetectCgroups plans the cgroups of a machine of a cluster. A machine of both versions is treated as version 1, as
// the kubelet and runc do.
func DetectCgroups(group, name string) ([]Cgroup, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	sub := filepath.Join(CgroupPath(group), name)
	var v1, v2 []Cgroup
	for _, h := range all {
		if h.name != "" {
			v1 = append(v1, Cgroup{Path: filepath.Join(h.own, sub), Name: h.name, Options: h.options})
			continue
		}
		v2 = append(v2, Cgroup{Path: filepath.Join(h.mount, sub)})
	}
	if len(v1) > 0 {
		return v1, nil
	}
	if len(v2) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted")
	}
	return v2, nil
}

// hierarchies lists the mounted hierarchies that the caller is a member of.
func hierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("reading mounts: %w", err)
	}
	members, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("reading own cgroups: %w", err)
	}
	var found []hierarchy
	seen := map[string]bool{}
	for m := range mountLines(mounts) {
		if m.fsType != "cgroup" && m.fsType != "cgroup2" {
			continue
		}
		h := hierarchy{mount: m.target}
		controllers := ""
		if m.fsType == "cgroup" {
			h.name = filepath.Base(m.target)
			controllers = v1Controllers(m.superOptions)
			h.options = controllers
			if strings.HasPrefix(controllers, "name=") {
				h.options = "none," + controllers
			}
		}
		path, member := memberPath(members, controllers)
		if !member || seen[controllers] {
			continue
		}
		seen[controllers] = true
		h.own = m.target
		if rel, err := filepath.Rel(m.root, path); err == nil && !strings.HasPrefix(rel, "..") {
			h.own = filepath.Join(m.target, rel)
		}
		found = append(found, h)
	}
	return found, nil
}

// v1Controllers picks the controllers or the name out of a version 1 hierarchy's super block options.
func v1Controllers(options string) string {
	var keep []string
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "rw", "ro", "xattr", "clone_children", "noprefix":
		default:
			if !strings.HasPrefix(o, "release_agent=") {
				keep = append(keep, o)
			}
		}
	}
	return strings.Join(keep, ",")
}

// memberPath finds the caller's path in the hierarchy of these controllers, in the text of /proc/self/cgroup.
func memberPath(members []byte, controllers string) (string, bool) {
	want := strings.Split(controllers, ",")
	slices.Sort(want)
	for line := range strings.Lines(string(members)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		have := strings.Split(parts[1], ",")
		slices.Sort(have)
		if slices.Equal(have, want) {
			return parts[2], true
		}
	}
	return "", false
}

// create makes the cgroup and what lies between it and the hierarchy's mount.
func (c Cgroup) create() error {
	if err := os.MkdirAll(filepath.Dir(c.Path), 0o755); err != nil {
		return fmt.Errorf("creating cgroup %q: %w", c.Path, err)
	}
	if err := os.Mkdir(c.Path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating cgroup %q: %w", c.Path, err)
	}
	if slices.Contains(strings.Split(c.Options, ","), "cpuset") {
		return c.inheritCPUs()
	}
	if c.unified() {
		for _, dir := range []string{filepath.Dir(filepath.Dir(filepath.Dir(c.Path))), filepath.Dir(filepath.Dir(c.Path)), filepath.Dir(c.Path)} {
			if err := delegate(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// inheritCPUs fills in the processors and memory nodes of a version 1 cpuset, which begin empty and admit nobody.
func (c Cgroup) inheritCPUs() error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		var missing []string
		dir := c.Path
		var value []byte
		for {
			data, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return fmt.Errorf("reading %q of cgroup %q: %w", file, dir, err)
			}
			if value = bytes.TrimSpace(data); len(value) > 0 {
				break
			}
			missing = append(missing, dir)
			dir = filepath.Dir(dir)
		}
		for _, dir := range slices.Backward(missing) {
			if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
				return fmt.Errorf("setting %q of cgroup %q: %w", file, dir, err)
			}
		}
	}
	return nil
}

// delegate turns on every controller for the children of a version 2 cgroup. A cgroup that has processes of its own
// can't have that, so they move to a leaf first, as container runtimes in containers do.
func delegate(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("reading the controllers of cgroup %q: %w", dir, err)
	}
	enable := func() error {
		for _, controller := range strings.Fields(string(data)) {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
				return fmt.Errorf("enabling controller %q below cgroup %q: %w", controller, dir, err)
			}
		}
		return nil
	}
	if err := enable(); !errors.Is(err, unix.EBUSY) {
		return err
	}
	leaf := filepath.Join(dir, "init")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		return fmt.Errorf("creating cgroup %q: %w", leaf, err)
	}
	pids, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return fmt.Errorf("reading the processes of cgroup %q: %w", dir, err)
	}
	for pid := range strings.FieldsSeq(string(pids)) {
		if err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(pid), 0o644); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("moving process %s to cgroup %q: %w", pid, leaf, err)
		}
	}
	return enable()
}

// join moves the calling process into the cgroup.
func (c Cgroup) join() error {
	if err := os.WriteFile(filepath.Join(c.Path, "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return fmt.Errorf("joining cgroup %q: %w", c.Path, err)
	}
	return nil
}

// freezer is the cgroup that freezes the machine.
func freezer(cgroups []Cgroup) (Cgroup, bool) {
	for _, c := range cgroups {
		if c.unified() || slices.Contains(strings.Split(c.Options, ","), "freezer") {
			return c, true
		}
	}
	return Cgroup{}, false
}

// setFrozen freezes or thaws the cgroup with all below it, and returns when that is done.
func (c Cgroup) setFrozen(ctx context.Context, frozen bool) error {
	control, value, state, reached := "freezer.state", "THAWED", "freezer.state", "THAWED"
	if frozen {
		value, reached = "FROZEN", "FROZEN"
	}
	if c.unified() {
		control, value, state, reached = "cgroup.freeze", "0", "cgroup.events", "frozen 0"
		if frozen {
			value, reached = "1", "frozen 1"
		}
	}
	if err := os.WriteFile(filepath.Join(c.Path, control), []byte(value), 0o644); err != nil {
		return fmt.Errorf("writing %q to %q of cgroup %q: %w", value, control, c.Path, err)
	}
	return poll(ctx, 5*time.Millisecond, fmt.Sprintf("cgroup %q to become %s", c.Path, reached), func() bool {
		data, err := os.ReadFile(filepath.Join(c.Path, state))
		return err == nil && strings.Contains(string(data), reached)
	})
}

// thawTree thaws the cgroup and everything below it, what was frozen by itself too: a frozen process of a version 1
// hierarchy does not even die.
func (c Cgroup) thawTree() {
	control, value := "freezer.state", "THAWED"
	if c.unified() {
		control, value = "cgroup.freeze", "0"
	}
	for _, dir := range tree(c.Path) {
		_ = os.WriteFile(filepath.Join(dir, control), []byte(value), 0o644)
	}
}

// processes lists the host's numbers of all processes in the cgroup and below.
func (c Cgroup) processes() []Process {
	var found []Process
	for _, dir := range tree(c.Path) {
		f, err := os.Open(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		scan := bufio.NewScanner(f)
		for scan.Scan() {
			var pid int
			if _, err := fmt.Sscan(scan.Text(), &pid); err == nil && pid > 0 {
				if p, err := Identify(pid); err == nil {
					found = append(found, p)
				}
			}
		}
		_ = f.Close()
	}
	return found
}

// remove deletes the cgroup and everything below it. A cgroup stays busy for a moment after its last process died.
func (c Cgroup) remove(ctx context.Context) error {
	var last error
	err := poll(ctx, 20*time.Millisecond, fmt.Sprintf("cgroup %q to become empty", c.Path), func() bool {
		last = removeTree(c.Path)
		return last == nil
	})
	return errors.Join(err, last)
}

func removeTree(path string) error {
	for _, dir := range slices.Backward(tree(path)) {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("removing cgroup %q: %w", dir, err)
		}
	}
	return nil
}

// tree lists a directory and all directories below it, parents first.
func tree(path string) []string {
	var dirs []string
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	return dirs
}

// GroupCgroups lists what exists of a cluster's cgroups, in whichever cgroup it was started.
func GroupCgroups(group string) ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	suffix := "/" + CgroupPath(group)
	var found []string
	for _, h := range all {
		for _, dir := range tree(h.mount) {
			if strings.HasSuffix(dir, suffix) {
				found = append(found, dir)
			}
		}
	}
	return found, nil
}

// RemoveGroupCgroups deletes a cluster's cgroups.
func RemoveGroupCgroups(ctx context.Context, group string) error {
	dirs, err := GroupCgroups(group)
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, Cgroup{Path: dir}.remove(ctx))
		_ = unix.Rmdir(filepath.Dir(dir)) // shared with other clusters: stays while they live
	}
	return errors.Join(errs...)
}
