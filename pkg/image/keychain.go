// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
)

// dockerConfigNames are the names that the file may have in its directory: docker's, and that of the key of a Secret of type
// kubernetes.io/dockerconfigjson.
var dockerConfigNames = []string{"config.json", ".dockerconfigjson"}

// DockerConfig returns a Keychain of the docker configuration file in a directory, where a Secret is mounted for instance. The file
// is read again at each use, so that a rotated Secret counts at once. A directory without the file means no credentials; a
// file that can't be parsed is an error of each use.
func DockerConfig(dir string) authn.Keychain { return dockerConfig{dir} }

type dockerConfig struct{ dir string }

// Resolve implements authn.Keychain.
func (d dockerConfig) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return d.ResolveContext(context.Background(), target)
}

// ResolveContext implements authn.ContextKeychain.
func (d dockerConfig) ResolveContext(_ context.Context, target authn.Resource) (authn.Authenticator, error) {
	file, err := d.load()
	if err != nil || file == nil {
		return authn.Anonymous, err
	}
	auths := make(map[string]types.AuthConfig, len(file.AuthConfigs))
	for key, auth := range file.AuthConfigs {
		auths[normalize(key)] = auth
	}
	// As the kubelet: the longest path that was given for the registry counts.
	for key := target.String(); ; {
		if auth, ok := auths[key]; ok {
			return authn.FromConfig(authn.AuthConfig{
				Username:      auth.Username,
				Password:      auth.Password,
				Auth:          auth.Auth,
				IdentityToken: auth.IdentityToken,
				RegistryToken: auth.RegistryToken,
			}), nil
		}
		slash := strings.LastIndexByte(key, '/')
		if slash < 0 {
			return authn.Anonymous, nil
		}
		key = key[:slash]
	}
}

// normalize reduces the forms that docker has used for a registry (https://index.docker.io/v1/) to host and path.
func normalize(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(key, "/")
	return strings.TrimSuffix(strings.TrimSuffix(key, "/v1"), "/v2")
}

func (d dockerConfig) load() (*configfile.ConfigFile, error) {
	for _, file := range dockerConfigNames {
		path := filepath.Join(d.dir, file)
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &credentialsError{fmt.Errorf("reading registry credentials: %w", err)}
		}
		parsed, err := config.LoadFromReader(bytes.NewReader(raw))
		if err != nil {
			// The parser's message may quote the file.
			return nil, &credentialsError{fmt.Errorf("parsing registry credentials %q: not a docker configuration", path)}
		}
		return parsed, nil
	}
	return nil, nil
}

// credentialsError is a failure to read the credentials: one on this side.
type credentialsError struct{ error }

// Unwrap returns what went wrong.
func (e *credentialsError) Unwrap() error { return e.error }
