package colorfast_test

import (
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"colorfast"
)

var update = flag.Bool("update", false, "rewrite generated documents")

// generated is compared with what a document holds, or written into it.
func generated(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := read(t, file); got != want {
		t.Errorf("%s is not what the code says; run \"make generate\"", file)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFindingsDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Findings

Generated from the catalogue in finding.go by "make generate"; do not edit.

A finding says that something was looked at and is not as it should be. Its code
is stable and never used for anything else. The severities:

- **fatal**: a restore will miss records, or Chroma may not start on it. The
  backup is kept and marked as damaged, and the command ends with exit code 3.
- **risk**: a restore is whole, but something may go wrong later.
- **note**: worth knowing; a restore is whole.

| code | severity | meaning | what to do |
|---|---|---|---|
`)
	kinds := colorfast.Catalogue()
	if len(kinds) == 0 {
		t.Fatal("the catalogue is empty")
	}
	codes := map[colorfast.Code]bool{}
	for _, k := range kinds {
		if codes[k.Code] {
			t.Errorf("code %s is used twice", k.Code)
		}
		codes[k.Code] = true
		if k.Meaning == "" || k.Remedy == "" || k.Severity == "" {
			t.Errorf("code %s lacks its severity, meaning or remedy", k.Code)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Code, k.Severity, cell(k.Meaning), cell(k.Remedy))
	}
	generated(t, "docs/findings.md", b.String())
	for _, file := range walk(t, ".md") {
		for _, m := range regexp.MustCompile("`((?:sysdb|queue|hnsw|records|source|stored|vault|apart|key)\\.[a-z-]+)`").FindAllStringSubmatch(read(t, file), -1) {
			if !codes[colorfast.Code(m[1])] {
				t.Errorf("%s: there is no finding %s", file, m[1])
			}
		}
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

var requirement = regexp.MustCompile(`(?m)^(?:require)?\s+(\S+\.\S+) v\S+( // indirect)?$`)

// TestDependenciesDocument compares three lists: the modules whose packages the
// code imports, the direct requirements of go.mod, and docs/dependencies.md.
func TestDependenciesDocument(t *testing.T) {
	var modules, direct []string
	for _, m := range requirement.FindAllStringSubmatch(read(t, "go.mod"), -1) {
		modules = append(modules, m[1])
		if m[2] == "" {
			direct = append(direct, m[1])
		}
	}
	var imported []string
	for _, s := range sources(t) {
		for _, imp := range s.imports {
			if !isForeign(imp) {
				continue
			}
			best := ""
			for _, m := range modules {
				if below(imp, m) && len(m) > len(best) {
					best = m
				}
			}
			if best == "" {
				t.Errorf("%s: imports %q, which no module in go.mod has", s.file, imp)
			} else if !slices.Contains(imported, best) {
				imported = append(imported, best)
			}
		}
	}
	var listed []string
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\|$")
	for _, m := range row.FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		listed = append(listed, m[1])
		if len(strings.TrimSpace(m[3])) < 20 {
			t.Errorf("docs/dependencies.md: %s has no reason", m[1])
		}
	}
	if len(imported) == 0 || len(listed) == 0 {
		t.Fatalf("%d modules imported, %d listed", len(imported), len(listed))
	}
	same(t, "imported by the code", imported, "listed in docs/dependencies.md", listed)
	same(t, "imported by the code", imported, "a direct requirement of go.mod (run \"go mod tidy\")", direct)
}

// same compares two sets.
func same(t *testing.T, whatA string, a []string, whatB string, b []string) {
	t.Helper()
	for _, x := range a {
		if !slices.Contains(b, x) {
			t.Errorf("%s is %s but not %s", x, whatA, whatB)
		}
	}
	for _, x := range b {
		if !slices.Contains(a, x) {
			t.Errorf("%s is %s but not %s", x, whatB, whatA)
		}
	}
}

var (
	mdLink  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdCode  = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	mdTitle = regexp.MustCompile(`(?m)^#+ (.+)$`)
	docName = regexp.MustCompile(`\bdocs/[\w./-]*\w`)
)

func TestLinksLeadSomewhere(t *testing.T) {
	links := 0
	for _, file := range walk(t, ".md") {
		text := mdCode.ReplaceAllString(read(t, file), "")
		for _, m := range mdLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			links++
			target, anchor, _ := strings.Cut(m[1], "#")
			if target = path.Join(path.Dir(file), target); strings.HasPrefix(m[1], "#") {
				target = file
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", file, m[1])
			} else if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s: %s has no heading #%s", file, target, anchor)
			}
		}
	}
	if links < 10 {
		t.Errorf("only %d links were looked at", links)
	}
}

// anchors returns the marks that a Markdown viewer gives the headings.
func anchors(text string) []string {
	var out []string
	for _, m := range mdTitle.FindAllStringSubmatch(text, -1) {
		a := regexp.MustCompile(`[^\w\s-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(a, " ", "-"))
	}
	return out
}

// TestCommentsNameDocumentsThatExist looks at what comments in the code refer
// to; a name may be shortened, as docs/decisions/0001 is.
func TestCommentsNameDocumentsThatExist(t *testing.T) {
	names := 0
	for _, file := range walk(t, ".go") {
		if strings.HasSuffix(file, "docs_test.go") {
			continue
		}
		for _, name := range docName.FindAllString(read(t, file), -1) {
			names++
			if hits, _ := filepath.Glob(name + "*"); len(hits) == 0 {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
	if names == 0 {
		t.Error("no document is named anywhere: this test looks in the wrong place")
	}
}

func TestGlossaryHasEachWordOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\*\*([^*]+)\*\*`).FindAllStringSubmatch(read(t, "docs/glossary.md"), -1) {
		word := strings.ToLower(m[1])
		if seen[word] {
			t.Errorf("%q is explained twice", word)
		}
		seen[word] = true
	}
	for _, word := range []string{"source", "capture", "cut", "freeze", "vault", "backup", "finding", "restore point", "collection"} {
		if !seen[word] {
			t.Errorf("%q is not explained", word)
		}
	}
}

func TestArchitectureNamesEveryPackage(t *testing.T) {
	text := read(t, "ARCHITECTURE.md")
	if n := strings.Count(text, "\n"); n > 200 {
		t.Errorf("ARCHITECTURE.md has %d lines; at most 200 are read", n)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1) {
		named[m[1]] = true
	}
	packages := map[string]bool{}
	for _, s := range sources(t) {
		packages[s.pkg] = true
	}
	for p := range packages {
		if p != "." && !named[p] {
			t.Errorf("ARCHITECTURE.md does not name package %s", p)
		}
	}
	for p := range named {
		if !packages[p] {
			t.Errorf("ARCHITECTURE.md names package %s, which does not exist", p)
		}
	}
}

// TestDocumentsAgreeWithTheProgram checks second copies of facts: make targets,
// variables of the environment, flags, exit codes.
func TestDocumentsAgreeWithTheProgram(t *testing.T) {
	targets := regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(read(t, "Makefile"), -1)
	code := ""
	for _, s := range sources(t) {
		if s.pkg == "cmd/colorfast" || s.pkg == "vault" || isTestOnly(s.pkg) {
			code += read(t, s.file)
		}
	}
	checked := 0
	for _, file := range walk(t, ".md") {
		text := read(t, file)
		for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)").FindAllStringSubmatch(text, -1) {
			checked++
			if !slices.ContainsFunc(targets, func(x []string) bool { return x[1] == m[1] }) {
				t.Errorf("%s: there is no \"make %s\"", file, m[1])
			}
		}
		for _, v := range regexp.MustCompile(`\bCOLORFAST_[A-Z_]+\b`).FindAllString(text, -1) {
			checked++
			if !strings.Contains(code, v) {
				t.Errorf("%s: the program does not know %s", file, v)
			}
		}
	}
	for _, file := range []string{"README.md", "SECURITY.md", "docs/guarantees.md"} {
		for _, m := range regexp.MustCompile(`\B--([a-z][a-z-]+)`).FindAllStringSubmatch(read(t, file), -1) {
			checked++
			if !strings.Contains(code, `"`+m[1]+`"`) {
				t.Errorf("%s: the program has no flag --%s", file, m[1])
			}
		}
	}
	var codes, told []string
	for _, m := range regexp.MustCompile(`(?m)^\texit[A-Z]\w*\s+= (\d+)$`).FindAllStringSubmatch(read(t, "cmd/colorfast/main.go"), -1) {
		codes = append(codes, m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(read(t, "README.md"), -1) {
		told = append(told, m[1])
	}
	same(t, "an exit code of the program", codes, "told in README.md", told)
	if checked < 10 || len(codes) < 5 {
		t.Errorf("only %d mentions and %d exit codes were looked at", checked, len(codes))
	}
}

// TestFormatDocumentNamesEveryField holds docs/formats/vault.md to the stored
// form of a backup.
func TestFormatDocumentNamesEveryField(t *testing.T) {
	text := read(t, "docs/formats/vault.md")
	fields := map[string]bool{}
	jsonFields(reflect.TypeFor[colorfast.Manifest](), fields)
	for f := range fields {
		if !strings.Contains(text, "`"+f+"`") {
			t.Errorf("docs/formats/vault.md does not name the field %q", f)
		}
	}
	if len(fields) < 50 {
		t.Errorf("only %d fields were looked at", len(fields))
	}
	if want := fmt.Sprintf("format %d\n", colorfast.Format); !strings.Contains(text, want) {
		t.Errorf("docs/formats/vault.md is not about %s", want)
	}
}

// jsonFields collects the names of a type's fields in JSON.
func jsonFields(typ reflect.Type, into map[string]bool) {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice:
		jsonFields(typ.Elem(), into)
	case reflect.Struct:
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "-" {
				continue // not stored
			}
			if name != "" {
				into[name] = true
			} else if !f.Anonymous {
				continue
			}
			jsonFields(f.Type, into)
		}
	}
}
