package colorfast_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The limits. Raising one is a commit of its own, with a reason.
const (
	maxFileLines   = 500
	maxFuncLines   = 80
	maxMethods     = 6
	maxPackages    = 32
	minPackageSize = 100 // lines, without tests
)

// smallPackages may be smaller than minPackageSize, for a reason.
var smallPackages = map[string]string{
	"chroma":                      "the names that the packages below it share",
	"internal/servers/install":    "a main package: a door to internal/servers",
	"internal/chromatest/install": "a main package: a door to internal/chromatest",
	"internal/torture/run":        "a main package: a door to internal/torture",
	"internal/demo":               "a main package",
	"internal/e2e":                "only tests",
	"internal/bench":              "a main package",
}

// badNames say nothing of what is inside.
var badNames = []string{"util", "utils", "common", "helper", "helpers", "types", "models", "manager", "misc", "base", "lib"}

// goFile is a parsed Go file.
type goFile struct {
	name  string
	lines int
	test  bool
	fset  *token.FileSet
	ast   *ast.File
}

func parseAll(t *testing.T) []goFile {
	t.Helper()
	var out []goFile
	for _, name := range walk(t, ".go") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, b, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, goFile{name: name, lines: bytes.Count(b, []byte("\n")), test: strings.HasSuffix(name, "_test.go"), fset: fset, ast: f})
	}
	if len(out) < 50 {
		t.Fatalf("only %d Go files were found", len(out))
	}
	return out
}

func (g *goFile) span(n ast.Node) int {
	return g.fset.Position(n.End()).Line - g.fset.Position(n.Pos()).Line + 1
}

func TestShape(t *testing.T) {
	size, funcs, interfaces := map[string]int{}, 0, 0
	for _, g := range parseAll(t) {
		if g.lines > maxFileLines {
			t.Errorf("%s: %d lines; a file has at most %d", g.name, g.lines, maxFileLines)
		}
		if name := g.ast.Name.Name; slices.Contains(badNames, strings.TrimSuffix(name, "_test")) {
			t.Errorf("%s: package %s says nothing of what is inside", g.name, name)
		}
		size[path.Dir(g.name)] += 0
		if !g.test {
			size[path.Dir(g.name)] += g.lines
		}
		ast.Inspect(g.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				funcs++
				if lines := g.span(n); lines > maxFuncLines {
					t.Errorf("%s: func %s: %d lines; at most %d", g.name, n.Name.Name, lines, maxFuncLines)
				}
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%s: func init; importing a package does nothing", g.name)
				}
			case *ast.InterfaceType:
				interfaces++
				if m := n.Methods.NumFields(); m > maxMethods {
					t.Errorf("%s: an interface of %d methods; at most %d", g.name, m, maxMethods)
				}
			}
			return true
		})
	}
	if len(size) > maxPackages {
		t.Errorf("%d packages; at most %d", len(size), maxPackages)
	}
	for pkg, lines := range size {
		if lines < minPackageSize && smallPackages[pkg] == "" {
			t.Errorf("package %s: %d lines; fewer than %d need a reason in shape_test.go", pkg, lines, minPackageSize)
		}
	}
	if len(size) < 10 || funcs < 200 || interfaces < 3 {
		t.Errorf("only %d packages, %d functions and %d interfaces were looked at", len(size), funcs, interfaces)
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	packages, exported := map[string]bool{}, 0
	for _, g := range parseAll(t) {
		if g.test {
			continue
		}
		pkg := path.Dir(g.name)
		packages[pkg] = packages[pkg] || g.ast.Doc != nil
		check := func(name *ast.Ident, docs ...*ast.CommentGroup) {
			if !name.IsExported() {
				return
			}
			exported++
			if !slices.ContainsFunc(docs, func(d *ast.CommentGroup) bool { return d != nil }) {
				t.Errorf("%s: %s has no comment", g.fset.Position(name.Pos()), name.Name)
			}
		}
		for _, d := range g.ast.Decls {
			checkDocs(d, check)
		}
	}
	for pkg, ok := range packages {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
	if exported < 100 {
		t.Errorf("only %d exported names were looked at", exported)
	}
}

// checkDocs hands every name of a top-level declaration to check, with the
// comments that may document it.
func checkDocs(d ast.Decl, check func(name *ast.Ident, docs ...*ast.CommentGroup)) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil || receiver(d).IsExported() {
			check(d.Name, d.Doc)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				check(s.Name, d.Doc, s.Doc)
				if i, ok := s.Type.(*ast.InterfaceType); ok && s.Name.IsExported() {
					for _, m := range i.Methods.List {
						for _, name := range m.Names {
							check(name, m.Doc, m.Comment)
						}
					}
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					check(name, d.Doc, s.Doc, s.Comment)
				}
			}
		}
	}
}

func receiver(d *ast.FuncDecl) *ast.Ident {
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.Ident:
			return x
		default:
			return ast.NewIdent("unknown")
		}
	}
}

// doorsOnly are functions that end the process or read what is around it.
var doorsOnly = []string{"os.Exit", "os.Getenv", "os.LookupEnv", "os.Environ", "log.Fatal", "log.Fatalf", "log.Fatalln", "slog.Default", "fmt.Print", "fmt.Println", "fmt.Printf"}

func TestOnlyDoorsSeeTheWorld(t *testing.T) {
	looked := 0
	for _, g := range parseAll(t) {
		pkg := path.Dir(g.name)
		if g.test || pkg == "cmd/colorfast" || isTestOnly(pkg) {
			continue
		}
		ast.Inspect(g.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			looked++
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(doorsOnly, x.Name+"."+sel.Sel.Name) {
				t.Errorf("%s: %s.%s is for cmd/colorfast alone", g.fset.Position(n.Pos()), x.Name, sel.Sel.Name)
			}
			return true
		})
	}
	if looked < 1000 {
		t.Errorf("only %d selectors were looked at", looked)
	}
}

// unwanted must not be in any text file of the project. The patterns are
// spelled so that they do not find themselves.
var unwanted = []struct {
	pattern *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`), "do it, or leave the mark out"},
	{regexp.MustCompile(`(?i)proxy\.go` + `lang\.org|registry\.npm` + `js|deb\.deb` + `ian\.org|\bpypi\.o` + `rg|files\.python` + `hosted`), "name packages, never the hosts that serve them: mirrors differ"},
	{regexp.MustCompile(`(^|[^\w./-])/(wo` + `rk|ro` + `ot)/\w`), "a path of one machine"},
}

func TestNothingUnwantedIsWritten(t *testing.T) {
	texts := 0
	for _, name := range walk(t, "") {
		if strings.Contains(name, "/testdata/") || name == "go.sum" {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
			t.Errorf("%s: not text; only testdata may hold other files", name)
			continue
		}
		texts++
		for i, line := range strings.Split(string(b), "\n") {
			for _, u := range unwanted {
				if m := u.pattern.FindString(line); m != "" {
					t.Errorf("%s:%d: %q: %s", name, i+1, strings.TrimSpace(m), u.why)
				}
			}
		}
	}
	if texts < 80 {
		t.Errorf("only %d text files were looked at", texts)
	}
}
