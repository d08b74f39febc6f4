// SPDX-License-Identifier: Apache-2.0

// Package imports checks who imports whom in this module.
package imports

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Graph maps each package of the module, by its folder ("pkg/agent"), to what its files import: packages of the module by their
// folder, others by their path. Test files and build tags don't matter: the first are left out, all of the second are read.
type Graph map[string][]string

// Read reads the graph of the module whose root is dir. Other modules below dir are left out.
func Read(dir, module string) (Graph, error) {
	g := Graph{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skip(file, rel)
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		imported, err := importsOf(file, module)
		if err != nil {
			return err
		}
		pkg := path.Dir(filepath.ToSlash(rel))
		g[pkg] = append(g[pkg], imported...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the imports below %q: %w", dir, err)
	}
	for pkg := range g {
		slices.Sort(g[pkg])
		g[pkg] = slices.Compact(g[pkg])
	}
	return g, nil
}

func skip(dir, rel string) error {
	base := filepath.Base(rel)
	if rel != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata") {
		return filepath.SkipDir
	}
	if nested, err := filepath.Glob(filepath.Join(dir, "go.mod")); err != nil || rel != "." && len(nested) > 0 {
		return filepath.SkipDir
	}
	return nil
}

func importsOf(file, module string) ([]string, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, spec := range parsed.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, strings.TrimPrefix(p, module+"/"))
	}
	return all, nil
}

// Reach returns every way from pkg over packages of the module to an import for which is holds: the chain of imports, one for each
// import found.
func (g Graph) Reach(pkg string, is func(string) bool) [][]string {
	var found [][]string
	seen := map[string]bool{pkg: true}
	for queue := [][]string{{pkg}}; len(queue) > 0; queue = queue[1:] {
		chain := queue[0]
		for _, next := range g[chain[len(chain)-1]] {
			if seen[next] {
				continue
			}
			seen[next] = true
			longer := append(slices.Clone(chain), next)
			if is(next) {
				found = append(found, longer)
			}
			queue = append(queue, longer)
		}
	}
	return found
}

// Below tells whether pkg is one of the trees or lies in one.
func Below(pkg string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return pkg == tree || strings.HasPrefix(pkg, tree+"/") })
}
