// SPDX-License-Identifier: Apache-2.0

// Package cache keeps what is costly to build as finished, read-only entries in one folder of the user's cache.
//
// An entry is a directory that appears whole or not at all: it is built beside its place and renamed into it. Entries
// are named by what they are made from, so a finished one is never changed and may be used by several processes.
package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DirEnv names the environment variable that moves the cache away from the user's cache directory.
const DirEnv = "CRYOPOD_CACHE"

// buildingSuffix ends the name of a directory that is not finished. Nothing but a killed run leaves one behind.
const buildingSuffix = ".building"

// keep is how long an entry stays that nobody asks for.
const keep = 30 * 24 * time.Hour

// lockPoll is how often a waiting process asks for a lock that another one holds.
const lockPoll = 200 * time.Millisecond

// Entry names one thing in a cache.
type Entry struct {
	// Kind is the folder that versions of the same thing share, "containerd" say. It must be a plain file name.
	Kind string
	// Version is for people who look into the folder. It must be a plain file name.
	Version string
	// Key tells apart what was built from different inputs.
	Key Key
}

func (e Entry) name() string {
	return e.Version + "-" + e.Key.String()
}

// Cache is a folder of entries. It is safe for concurrent use, also by several processes.
type Cache struct {
	dir string
}

// Dir returns the folder that the environment asks for: $CRYOPOD_CACHE, else "cryopod" in the user's cache directory.
func Dir() (string, error) {
	dir := os.Getenv(DirEnv)
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("finding the user's cache directory: %w", err)
		}
		dir = filepath.Join(user, "cryopod")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolving cache directory %q: %w", dir, err)
	}
	return abs, nil
}

// Open returns the cache in dir, which is made when the first entry is.
func Open(dir string) *Cache {
	return &Cache{dir: dir}
}

// Lookup returns the directory of e and whether it is there, finished. Looking counts as use.
func (c *Cache) Lookup(e Entry) (string, bool) {
	path := filepath.Join(c.dir, e.Kind, e.name())
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() {
		return path, false
	}
	// Somebody else's cache can be read without being marked.
	now := time.Now()
	_ = os.Chtimes(path, now, now)
	return path, true
}

// Ensure returns the directory of e and calls build first when it is not there. build fills the empty directory that
// it is given; when it fails, nothing stays. Of several callers, in this process or others, one builds and the rest wait.
// Entries of the same kind and version that nobody asked for in 30 days go when a new one is built.
func (c *Cache) Ensure(ctx context.Context, e Entry, build func(ctx context.Context, dir string) error) (string, error) {
	path, ok := c.Lookup(e)
	if ok {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("making cache folder %q: %w", e.Kind, err)
	}
	unlock, err := lock(ctx, filepath.Join(filepath.Dir(path), "."+e.Version+".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, ok := c.Lookup(e); ok {
		return path, nil
	}
	if err := tidy(filepath.Dir(path), e.Version); err != nil {
		return "", err
	}
	return path, buildEntry(ctx, path, build)
}

func buildEntry(ctx context.Context, path string, build func(ctx context.Context, dir string) error) error {
	building := path + buildingSuffix
	if err := os.Mkdir(building, 0o755); err != nil {
		return fmt.Errorf("making build directory: %w", err)
	}
	if err := build(ctx, building); err != nil {
		return errors.Join(err, Remove(building))
	}
	if err := os.Rename(building, path); err != nil {
		return errors.Join(fmt.Errorf("publishing %q: %w", path, err), Remove(building))
	}
	return nil
}

// tidy deletes what killed runs left of version and what nobody has used for long, a version with an older key say. The
// caller holds the version's lock.
func tidy(folder, version string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("reading cache folder %q: %w", folder, err)
	}
	for _, entry := range entries {
		// A key has no dash, so a version that is the beginning of another one's name does not match that.
		rest, ok := strings.CutPrefix(entry.Name(), version+"-")
		if !ok || strings.Contains(rest, "-") {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return fmt.Errorf("reading cache folder %q: %w", folder, err)
		}
		if !strings.HasSuffix(rest, buildingSuffix) && time.Since(info.ModTime()) < keep {
			continue
		}
		if err := Remove(filepath.Join(folder, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// lock takes the file lock at path, which the kernel releases when the process dies.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening lock file: %w", err)
	}
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("locking %q: %w", path, err)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("waiting for the run that holds %q: %w", path, ctx.Err())
		case <-ticker.C:
		}
	}
}
