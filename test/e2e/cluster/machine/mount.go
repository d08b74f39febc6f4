// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// devices are the device nodes that a machine shares with the host. One that the host lacks is left out.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty", "fuse", "kmsg"}

// assemble builds the machine's file tree and makes it the root. The caller is in a mount namespace of its own.
func assemble(s *Spec) error {
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root := filepath.Join(s.Dir, "root")
	upper, work := filepath.Join(s.Dir, "disk", "upper"), filepath.Join(s.Dir, "disk", "work")
	for _, dir := range []string{root, upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("creating %q: %w", dir, err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", s.RootFS, upper, work)
	if err := mount("overlay", root, "overlay", 0, options); err != nil {
		return err
	}
	for _, step := range []func(*Spec, string) error{mountSystem, mountSettings, mountDevices, mountCgroups, mountBinds} {
		if err := step(s, root); err != nil {
			return err
		}
	}
	if err := pivot(root); err != nil {
		return err
	}
	// Only now: the kernel refuses to pivot within shared mounts.
	if err := mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	return writeFiles(s)
}

func mountSystem(_ *Spec, root string) error {
	for _, m := range []struct{ source, target, options string }{
		{"proc", "proc", ""},
		{"sysfs", "sys", ""},
		{"tmpfs", "run", "mode=755"},
		{"tmpfs", "tmp", "mode=1777"},
		{"tmpfs", "dev", "mode=755"},
	} {
		if err := mountAt(m.source, filepath.Join(root, m.target), m.source, m.options); err != nil {
			return err
		}
	}
	return nil
}

// mountSettings lays copies over the settings that the machine is to have for itself. One that the kernel lacks is left
// out.
func mountSettings(s *Spec, root string) error {
	copies := filepath.Join(s.Dir, "settings")
	if err := os.MkdirAll(copies, 0o755); err != nil {
		return fmt.Errorf("creating %q: %w", copies, err)
	}
	for _, name := range s.OwnSettings {
		target := filepath.Join(root, "proc/sys", name)
		value, err := os.ReadFile(target)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the setting %q: %w", name, err)
		}
		own := filepath.Join(copies, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(own, value, 0o644); err != nil {
			return fmt.Errorf("copying the setting %q: %w", name, err)
		}
		if err := mount(own, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	return nil
}

func mountDevices(_ *Spec, root string) error {
	dev := filepath.Join(root, "dev")
	for _, name := range devices {
		if _, err := os.Stat("/dev/" + name); err != nil {
			continue
		}
		target := filepath.Join(dev, name)
		if err := os.WriteFile(target, nil, 0o666); err != nil {
			return fmt.Errorf("creating %q: %w", target, err)
		}
		if err := mount("/dev/"+name, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	if err := mountAt("devpts", filepath.Join(dev, "pts"), "devpts", "newinstance,ptmxmode=0666,mode=620,gid=5"); err != nil {
		return err
	}
	if err := mountAt("tmpfs", filepath.Join(dev, "shm"), "tmpfs", "mode=1777"); err != nil {
		return err
	}
	for name, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return fmt.Errorf("linking device %q: %w", name, err)
		}
	}
	return nil
}

// mountCgroups mounts the hierarchies afresh: from within a cgroup namespace each begins at the machine's own cgroup.
func mountCgroups(s *Spec, root string) error {
	base := filepath.Join(root, "sys/fs/cgroup")
	for i, c := range s.Cgroups {
		if c.unified() {
			return mount("cgroup2", base, "cgroup2", 0, "")
		}
		if i == 0 {
			if err := mount("tmpfs", base, "tmpfs", 0, "mode=755"); err != nil {
				return err
			}
		}
		if err := mountAt("cgroup", filepath.Join(base, c.Name), "cgroup", c.Options); err != nil {
			return err
		}
	}
	return nil
}

func mountBinds(s *Spec, root string) error {
	logs := Bind{Source: filepath.Join(s.Dir, logDir), Target: logMount}
	for _, b := range append([]Bind{logs}, s.Binds...) {
		info, err := os.Stat(b.Source)
		if os.IsNotExist(err) {
			if err := os.MkdirAll(b.Source, 0o755); err != nil {
				return fmt.Errorf("creating %q: %w", b.Source, err)
			}
			info, err = os.Stat(b.Source)
		}
		if err != nil {
			return fmt.Errorf("binding %q: %w", b.Source, err)
		}
		target := filepath.Join(root, b.Target)
		if err := mountPoint(target, info.IsDir()); err != nil {
			return err
		}
		if err := mount(b.Source, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		if b.ReadOnly {
			if err := mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

func mountPoint(path string, dir bool) error {
	parent := path
	if !dir {
		parent = filepath.Dir(path)
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("creating mount point %q: %w", path, err)
	}
	if dir {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("creating mount point %q: %w", path, err)
	}
	return f.Close()
}

// pivot makes dir the root and lets go of the old one.
func pivot(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("entering %q: %w", dir, err)
	}
	// The old root ends up stacked on the new one, from where it is unmounted: no directory is needed for it.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivoting to %q: %w", dir, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	return nil
}

func writeFiles(s *Spec) error {
	for _, f := range s.Files {
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return fmt.Errorf("creating the folder of %q: %w", f.Path, err)
		}
		// A link in the root file system (resolv.conf often is one) must not lead the write elsewhere.
		if err := os.RemoveAll(f.Path); err != nil {
			return fmt.Errorf("replacing %q: %w", f.Path, err)
		}
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		if err := os.WriteFile(f.Path, []byte(f.Content), mode); err != nil {
			return fmt.Errorf("writing %q: %w", f.Path, err)
		}
	}
	for path, target := range s.Links {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("creating the folder of %q: %w", path, err)
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("replacing %q: %w", path, err)
		}
		if err := os.Symlink(target, path); err != nil {
			return fmt.Errorf("linking %q: %w", path, err)
		}
	}
	return nil
}

func mountAt(source, target, fsType, options string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("creating mount point %q: %w", target, err)
	}
	return mount(source, target, fsType, 0, options)
}

func mount(source, target, fsType string, flags uintptr, options string) error {
	if err := unix.Mount(source, target, fsType, flags, options); err != nil {
		return fmt.Errorf("mounting %s %q on %q (flags %#x, options %q): %w", fsType, source, target, flags, options, err)
	}
	return nil
}
