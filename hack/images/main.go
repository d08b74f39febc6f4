// SPDX-License-Identifier: Apache-2.0

// Command images builds the images of Cryopod's components and pushes them to a registry, with nothing but the Go toolchain: no
// container daemon and no base image. It prints each image by digest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/cryopod/cryopod/hack/images/component"
	"github.com/cryopod/cryopod/pkg/image"
)

type options struct {
	registry, tag, platforms, certificates, dockerConfig string
	insecure                                             bool
}

func (o *options) register(f *flag.FlagSet) {
	f.StringVar(&o.registry, "registry", "", "where to push to, registry/path; the components are repositories below it")
	f.StringVar(&o.tag, "tag", "dev", "the images' tag")
	f.StringVar(&o.platforms, "platforms", component.HostPlatform(), "platforms to build for, comma-separated (linux/amd64,linux/arm64)")
	f.StringVar(&o.certificates, "certificates", "/etc/ssl/certs/ca-certificates.crt", "the certificate authorities that the images trust, as PEM")
	f.StringVar(&o.dockerConfig, "docker-config", "", "directory of the docker config.json with the registry's credentials (default: docker's own)")
	f.BoolVar(&o.insecure, "insecure", false, "allow plain HTTP for a registry that is not local")
}

func (o *options) validate() error {
	if o.registry == "" {
		return errors.New("--registry is missing, as in --registry=registry.example/cryopod")
	}
	if o.tag == "" {
		return errors.New("--tag is empty")
	}
	if o.platforms == "" {
		return errors.New("--platforms is empty")
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	o.register(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	certificates, err := os.ReadFile(o.certificates)
	if err != nil {
		return fmt.Errorf("reading --certificates: %w", err)
	}
	platforms, err := parsePlatforms(o.platforms)
	if err != nil {
		return fmt.Errorf("parsing --platforms: %w", err)
	}
	to := component.Target{Insecure: o.insecure, Keychain: authn.DefaultKeychain}
	if o.dockerConfig != "" {
		to.Keychain = image.DockerConfig(o.dockerConfig)
	}
	// Side by side: a linker keeps one processor busy.
	digests := make([]string, len(component.All))
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range component.All {
		group.Go(func() error {
			built, err := component.Build(ctx, c, certificates, platforms)
			if err != nil {
				return err
			}
			digests[i], err = to.Push(ctx, fmt.Sprintf("%s/%s:%s", o.registry, c.Name, o.tag), built)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, digest := range digests {
		fmt.Println(digest)
	}
	return nil
}

func parsePlatforms(list string) ([]v1.Platform, error) {
	var platforms []v1.Platform
	for s := range strings.SplitSeq(list, ",") {
		p, err := v1.ParsePlatform(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		platforms = append(platforms, *p)
	}
	return platforms, nil
}
