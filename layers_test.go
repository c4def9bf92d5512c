package colorfast_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "colorfast"

// layer says what the code of some packages may import beside the standard
// library, and why no more. Paths are relative to the module; "." is the root,
// and "x/..." is x with all below it.
type layer struct {
	name     string
	packages []string
	ours     []string // packages of this module
	foreign  []string // modules of others, and all below them
	never    []string // of the standard library
	why      string
	testOnly bool // no shipped code may import it
}

var layers = []layer{
	{
		name: "words", packages: []string{"."},
		never: []string{"os", "net", "log", "log/slog", "database/sql", "testing"},
		why:   "the root is the vocabulary: everybody imports it, so it does nothing and needs nothing",
	},
	{
		name: "chroma", packages: []string{"chroma/..."},
		ours: []string{"chroma/..."}, foreign: []string{"golang.org/x/sync", "zombiezen.com/go/sqlite"},
		why: "what is known of Chroma knows nothing of backups: it could be a module of its own",
	},
	{
		name: "capture", packages: []string{"capture"},
		ours:    []string{".", "chroma/..."},
		foreign: []string{"golang.org/x/sys", "golang.org/x/sync", "zombiezen.com/go/sqlite"},
		why:     "a capture copies bytes under locks; whether they are good is told to it by whoever calls it",
	},
	{
		name: "verify", packages: []string{"verify"},
		ours: []string{".", "chroma/..."}, foreign: []string{"golang.org/x/sync"},
		why: "a proof must not depend on what made the copy",
	},
	{
		name: "diff", packages: []string{"diff"},
		ours: []string{".", "chroma/..."}, foreign: []string{"golang.org/x/sync"},
		why: "it reads copies as verify does, and is handed the vault and the records; so that a backup may fill an index on its way, it knows nothing of making one",
	},
	{
		name: "backup", packages: []string{"backup"},
		ours: []string{".", "capture", "chroma/...", "diff", "verify", "internal/durable", "internal/openfiles"}, foreign: []string{"golang.org/x/sys"},
		why: "the pipeline knows the port Vault, never a storage",
	},
	{
		name: "restore", packages: []string{"restore"},
		ours:    []string{".", "internal/durable", "internal/openfiles"},
		foreign: []string{"golang.org/x/sys", "golang.org/x/sync"},
		why:     "a restore brings back bytes and is handed its proof; it must work for what no reader understands",
	},
	{
		name: "pages", packages: []string{"pages"},
		ours: []string{"."},
		why:  "cutting and comparing is thought alone: it can be tried on any bytes",
	},
	{
		name: "vault", packages: []string{"vault"},
		ours: []string{".", "pages", "internal/durable"},
		foreign: []string{
			"github.com/kopia/kopia", "go.uber.org/zap", "golang.org/x/sys", "golang.org/x/sync",
			"github.com/minio/minio-go/v7", "github.com/Azure/azure-sdk-for-go", "github.com/pkg/sftp", "golang.org/x/crypto", "golang.org/x/oauth2", "golang.org/x/net",
		},
		why: "an adapter sees the words and how pages are cut, so that another one can take its place; it has the clients of the storages",
	},
	{
		name: "durable", packages: []string{"internal/durable"},
		why: "writing files safely needs nothing of ours",
	},
	{
		name: "openfiles", packages: []string{"internal/openfiles"},
		ours: []string{"."}, foreign: []string{"golang.org/x/sys"},
		why: "looking into /proc needs the words for its errors and nothing else",
	},
	{
		name: "door", packages: []string{"cmd/colorfast"},
		ours:    []string{".", "backup", "capture", "diff", "restore", "verify", "vault", "internal/durable"},
		foreign: []string{"github.com/spf13/cobra", "github.com/schollz/progressbar/v3", "github.com/dustin/go-humanize", "golang.org/x/sys", "golang.org/x/term"},
		why:     "the door translates: it calls verbs and never reads Chroma's files itself",
	},
	{
		name: "programs for tests", testOnly: true,
		packages: []string{"internal/torture/run", "internal/demo", "internal/bench/..."},
		ours:     []string{".", "chroma/...", "capture", "verify", "backup", "restore", "vault", "internal/..."},
		foreign:  []string{"golang.org/x/sys", "golang.org/x/sync", "zombiezen.com/go/sqlite"},
		why:      "a program for tests wires things as the door does, and does nothing that a user could not",
	},
	{
		name: "second reader", testOnly: true,
		packages: []string{"internal/reader"},
		foreign:  []string{"golang.org/x/crypto", "github.com/klauspost/compress"},
		why:      "it proves that the documents suffice: it sees neither our code nor Kopia",
	},
	{
		name: "for tests", testOnly: true,
		packages: []string{"internal/chromatest/...", "internal/program", "internal/servers/...", "internal/contract", "internal/e2e", "internal/fake", "internal/torture"},
		ours:     []string{".", "chroma/...", "capture", "verify", "backup", "restore", "internal/..."},
		foreign:  []string{"golang.org/x/sys", "golang.org/x/sync", "zombiezen.com/go/sqlite", "github.com/minio/minio-go/v7", "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"},
		why:      "what judges colorfast uses its verbs and ports as anybody does, and no back door to a vault",
	},
}

// owner is the only place that may import some foreign package.
type owner struct {
	foreign  string
	packages []string
	tests    bool // tests anywhere may, and packages for tests
	why      string
}

var owners = []owner{
	{"github.com/kopia/kopia", []string{"vault"}, false, "whoever else imports it makes it harder to replace"},
	{"go.uber.org/zap", []string{"vault"}, false, "it is Kopia's logger, not ours: we log with log/slog"},
	{"golang.org/x/crypto", []string{"vault", "internal/reader"}, false, "what is encrypted is Kopia's business: the vault has SSH from it, and only who reads without Kopia the rest"},
	{"github.com/pkg/sftp", []string{"vault"}, false, "only storages speak to other hosts"},
	{"golang.org/x/oauth2", []string{"vault"}, false, "the same"},
	{"golang.org/x/net", []string{"vault"}, false, "the same"},
	{"github.com/klauspost/compress", []string{"internal/reader"}, false, "the same"},
	{"github.com/minio/minio-go/v7", []string{"vault"}, true, "only storages speak to other hosts; tests make buckets with it"},
	{"github.com/Azure/azure-sdk-for-go", []string{"vault"}, true, "the same"},
	{"github.com/spf13", []string{"cmd/colorfast"}, false, "flags are the door's business"},
	{"github.com/schollz/progressbar/v3", []string{"cmd/colorfast"}, false, "verbs tell colorfast.Progress; showing it is the door's business"},
	{"github.com/dustin/go-humanize", []string{"cmd/colorfast"}, false, "verbs count in bytes and seconds; wording them is the door's business"},
	{"golang.org/x/term", []string{"cmd/colorfast"}, false, "only the door knows whether a person is looking"},
	{"zombiezen.com/go/sqlite", []string{"chroma/sysdb", "chroma/records", "capture"}, true, "SQLite opens quiet copies only; fewer places, fewer ways to open a source by mistake"},
}

// source is a Go file.
type source struct {
	file    string
	pkg     string // directory relative to the module
	test    bool
	imports []string
}

// sources parses the imports of all Go files; it fails if there are none.
func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	for _, file := range walk(t, ".go") {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		s := source{file: file, pkg: path.Dir(file), test: strings.HasSuffix(file, "_test.go")}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			s.imports = append(s.imports, p)
		}
		out = append(out, s)
	}
	return out
}

// walk lists the project's files whose names end so, with slashes.
func walk(t *testing.T, suffix string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p = filepath.ToSlash(p)
		switch {
		case d.IsDir() && slices.Contains([]string{".git", ".cache", ".tools", "bin"}, p):
			return fs.SkipDir
		case d.Type().IsRegular() && strings.HasSuffix(p, suffix):
			out = append(out, p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("there is no file *%s: this test looks in the wrong place", suffix)
	}
	return out
}

// within reports whether p is one of the patterns or, for "x/...", below x.
func within(p string, patterns []string) bool {
	for _, pat := range patterns {
		dir, tree := strings.CutSuffix(pat, "/...")
		if p == dir || tree && strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

// below reports whether the import path p is root or lies below it.
func below(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

// ours returns the package's place in this module.
func ours(imp string) (string, bool) {
	if imp == module {
		return ".", true
	}
	return strings.CutPrefix(imp, module+"/")
}

func isForeign(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".")
}

func TestLayers(t *testing.T) {
	seen := map[string]int{}
	checked := 0
	for _, s := range sources(t) {
		i := slices.IndexFunc(layers, func(l layer) bool { return within(s.pkg, l.packages) })
		if i < 0 {
			t.Errorf("%s: package %q is in no layer; say in layers_test.go what it may import, and why", s.file, s.pkg)
			continue
		}
		l := layers[i]
		seen[l.name]++
		if s.test {
			continue // tests may see more; what they may not is in owners
		}
		for _, imp := range s.imports {
			checked++
			if !l.allows(imp) {
				t.Errorf("%s: imports %q, which %q may not: %s", s.file, imp, l.name, l.why)
			}
		}
	}
	for _, l := range layers {
		if seen[l.name] == 0 {
			t.Errorf("layer %q: no file is in it", l.name)
		}
	}
	if checked < 100 {
		t.Errorf("only %d imports were looked at", checked)
	}
}

// allows reports whether code of the layer may import this.
func (l layer) allows(imp string) bool {
	if p, ok := ours(imp); ok {
		return within(p, l.ours)
	}
	if isForeign(imp) {
		return slices.ContainsFunc(l.foreign, func(f string) bool { return below(imp, f) })
	}
	return !slices.ContainsFunc(l.never, func(n string) bool { return below(imp, n) })
}

func TestForeignPackagesHaveOneOwner(t *testing.T) {
	used := map[string]int{}
	for _, s := range sources(t) {
		for _, imp := range s.imports {
			for _, o := range owners {
				if !below(imp, o.foreign) {
					continue
				}
				used[o.foreign]++
				if within(s.pkg, o.packages) || o.tests && (s.test || isTestOnly(s.pkg)) {
					continue
				}
				t.Errorf("%s: imports %q, which belongs to %v: %s", s.file, imp, o.packages, o.why)
			}
		}
	}
	for _, o := range owners {
		if used[o.foreign] == 0 {
			t.Errorf("%s: nobody imports it any more; take it out of layers_test.go", o.foreign)
		}
	}
}

func isTestOnly(pkg string) bool {
	return slices.ContainsFunc(layers, func(l layer) bool { return l.testOnly && within(pkg, l.packages) })
}

func TestShippedCodeKeepsToItself(t *testing.T) {
	vaults := 0
	for _, s := range sources(t) {
		for _, imp := range s.imports {
			p, mine := ours(imp)
			switch {
			case mine && p == "vault" && !s.test:
				vaults++
				if s.pkg != "cmd/colorfast" && !isTestOnly(s.pkg) {
					t.Errorf("%s: imports the vault; only cmd/colorfast chooses where backups are kept", s.file)
				}
			case s.test || isTestOnly(s.pkg):
			case mine && isTestOnly(p):
				t.Errorf("%s: shipped code imports %q, which is for tests", s.file, imp)
			case imp == "testing" || imp == "unsafe" || imp == "os/exec":
				t.Errorf("%s: shipped code imports %q", s.file, imp)
			case below(imp, "net/http") && s.pkg != "chroma/client" && s.pkg != "vault":
				t.Errorf("%s: imports %q; only chroma/client and the storages of vaults speak HTTP", s.file, imp)
			}
		}
	}
	if vaults == 0 {
		t.Error("nobody imports the vault: this test looks in the wrong place")
	}
}
