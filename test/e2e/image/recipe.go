// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"fmt"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/cache"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
)

// recipeVersion changes whenever the steps of building do, so that images made by older ones are not used.
const recipeVersion = "1"

// basePackages are what the base layer has beyond a minimal Debian.
var basePackages = []string{"bash", "ca-certificates", "coreutils", "procps"}

// searchPath is the PATH in every Debian image.
const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// recipe says what an image has on top of the base.
type recipe struct {
	packages []string
	command  []string
	env      []string
	ports    []string
	dir      string
	// remove lists files that are installed, but differ from one build to the next and are not needed.
	remove []string
	// scripts are programs of ours, by their paths.
	scripts map[string]string
}

// baseRecipe tells what the base image runs.
var baseRecipe = recipe{command: []string{"bash"}}

var recipes = map[string]recipe{
	Python: {
		packages: []string{"python3", "python3-numpy"},
		command:  []string{"python3"},
		env:      []string{"PYTHONUNBUFFERED=1"},
	},
	Redis: {
		packages: []string{"redis-server", "redis-tools"},
		// Without a configuration file redis keeps to the foreground and serves this machine only.
		command: []string{"redis-server", "--protected-mode", "no"},
		ports:   []string{"6379/tcp"},
		dir:     "/var/lib/redis",
	},
	Nginx: {
		packages: []string{"nginx"},
		command:  []string{"nginx", "-g", "daemon off;"},
		ports:    []string{"80/tcp"},
	},
	Java: {
		packages: []string{"openjdk-21-jre-headless", "libeclipse-jdt-core-compiler-batch-java"},
		command:  []string{"java", "-version"},
		// The key store has the time of its making in it. No workload here speaks TLS.
		remove: []string{"etc/ssl/certs/java/cacerts"},
		// A JDK would be 400 MB more. This compiler is 3 MB.
		scripts: map[string]string{"usr/local/bin/javac": javaCompiler},
	},
	NodeJS: {
		packages: []string{"nodejs"},
		command:  []string{"node"},
	},
}

const javaCompiler = `#!/bin/sh
exec java -cp /usr/share/java/eclipse-jdt-core-compiler-batch.jar org.eclipse.jdt.internal.compiler.batch.Main -21 "$@"
`

// baseKey identifies the contents of the base layer.
func baseKey() cache.Key {
	return cache.NewKey(append([]string{recipeVersion, debian.Suite, debian.SourceDate.String()}, basePackages...)...)
}

// key identifies an image made by r.
func (r recipe) key() (cache.Key, error) {
	all, err := json.Marshal([]any{r.packages, r.command, r.env, r.ports, r.dir, r.remove, r.scripts})
	if err != nil {
		return "", fmt.Errorf("writing recipe: %w", err)
	}
	return cache.NewKey(baseKey().String(), installScript, string(all)), nil
}
