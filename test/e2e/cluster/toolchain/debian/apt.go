// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// ErrNoMirror says that apt's configuration names no archive to install from.
var ErrNoMirror = errors.New("apt is configured with no Debian archive")

// Install installs packages on this machine. The package lists are updated only when installing fails without that.
func Install(ctx context.Context, packages ...string) error {
	if len(packages) == 0 {
		return nil
	}
	// Another installation may be running; it ends some day.
	install := append([]string{"--option", "DPkg::Lock::Timeout=120", "install", "--yes", "--no-install-recommends"}, packages...)
	if _, err := Run(politely(ctx, "apt-get", install...)); err == nil {
		return nil
	}
	if _, err := Run(politely(ctx, "apt-get", "update")); err != nil {
		return fmt.Errorf("updating package lists: %w", err)
	}
	if _, err := Run(politely(ctx, "apt-get", install...)); err != nil {
		return fmt.Errorf("installing %s: %w", strings.Join(packages, ", "), err)
	}
	return nil
}

// politely prepares a command that is asked to end, not killed: half an installation would stay on this machine.
func politely(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := command(ctx, name, args...)
	cmd.SysProcAttr = nil
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

// Mirror returns the address of the Debian archive that apt uses.
func Mirror(ctx context.Context) (string, error) {
	cmd := command(ctx, "apt-get", "indextargets", "--format", "$(COMPONENT) $(SUITE) $(REPO_URI)")
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asking apt for its archive: %w", err)
	}
	return mirrorOf(string(output))
}

// mirrorOf picks from lines of "component suite address" the archive that carries whole releases: addresses that only
// serve security updates lack most packages.
func mirrorOf(targets string) (string, error) {
	var addresses []string
	for line := range strings.Lines(targets) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "main" || strings.Contains(fields[2], "security") {
			continue
		}
		// Only these can be read by debootstrap.
		address, err := url.Parse(fields[2])
		if err != nil || (address.Scheme != "http" && address.Scheme != "https") {
			continue
		}
		// debootstrap's and apt's sources want no slash at the end.
		whole := strings.TrimSuffix(fields[2], "/")
		if !strings.Contains(fields[1], "-updates") && !strings.Contains(fields[1], "-backports") {
			addresses = slices.Insert(addresses, 0, whole)
		} else {
			addresses = append(addresses, whole)
		}
	}
	if len(addresses) == 0 {
		return "", ErrNoMirror
	}
	return addresses[0], nil
}
