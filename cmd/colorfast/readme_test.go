package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestReadme runs the commands of the README's quick start, in order, in a
// folder that stands for the root of the file system.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, start, ok := strings.Cut(string(text), "## Quick start\n")
	start, _, more := strings.Cut(start, "\n## ")
	if !ok || !more {
		t.Fatal("the README has no quick start")
	}
	script, commands := &strings.Builder{}, 0
	script.WriteString("persist srv/chroma\npersist chroma\nmkdir mnt/backup mnt/other etc home\ncp key etc/colorfast.key\ncp other etc/colorfast-copies.key\n")
	inside := false
	for line := range strings.Lines(start) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			inside = !inside
			continue
		}
		if !inside || line == "" {
			continue
		}
		for _, root := range []string{"/mnt/", "/etc/", "/srv/"} {
			line = strings.ReplaceAll(line, root, "$WORK"+root)
		}
		switch word, rest, _ := strings.Cut(line, " "); word {
		case "export":
			script.WriteString("env " + rest + "\n")
		case "colorfast", "bin/colorfast":
			script.WriteString("exec colorfast " + rest + "\n")
			commands++
		case "make": // tried by every run of the tests
		default:
			t.Errorf("the quick start has a line that this test cannot run: %q", line)
		}
	}
	if commands < 8 {
		t.Errorf("found %d commands only:\n%s", commands, script)
	}
	script.WriteString("-- key --\nsecret\n-- other --\nanother secret\n")
	file := filepath.Join(t.TempDir(), "readme.txtar")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, params(testscript.Params{Files: []string{file}}))
}
